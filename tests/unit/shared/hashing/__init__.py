"""Tests of shared/hashing."""
