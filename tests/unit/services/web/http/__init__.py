"""Tests of services/web/http."""
