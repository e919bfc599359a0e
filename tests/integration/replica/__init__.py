"""Tests of the replicas that the query service keeps, on a real object store."""
