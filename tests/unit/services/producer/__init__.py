"""Tests of services/producer."""
