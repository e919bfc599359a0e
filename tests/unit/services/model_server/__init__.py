"""Tests of services/model_server."""
