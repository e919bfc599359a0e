"""Tests of shared/rpc/serving."""
