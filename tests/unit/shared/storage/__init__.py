"""Tests of shared/storage."""
