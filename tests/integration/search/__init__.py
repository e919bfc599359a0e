"""Tests of the query service's searches, on a real index."""
