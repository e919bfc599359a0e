"""Tests of shared/tuning."""
