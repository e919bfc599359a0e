"""Tests of services/query/replica."""
