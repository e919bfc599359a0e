"""Tests of reproduction."""
