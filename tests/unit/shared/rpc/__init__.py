"""Tests of shared/rpc."""
