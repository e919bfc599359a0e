"""Tests of the REST API against the running system; every answer is held against the OpenAPI document."""
