"""Tests of kind: browser."""
