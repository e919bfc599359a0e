"""Tests of shared/hashing/families."""
