"""Tests of services/query."""
