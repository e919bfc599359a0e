"""Tests of shared/health."""
