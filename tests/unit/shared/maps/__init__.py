"""Tests of shared/maps."""
