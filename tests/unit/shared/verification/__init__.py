"""Tests of shared/verification."""
