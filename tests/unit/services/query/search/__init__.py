"""Tests of services/query/search."""
