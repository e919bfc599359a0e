"""Tests of services/evaluator."""
