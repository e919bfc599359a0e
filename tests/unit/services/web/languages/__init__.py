"""Tests of services/web/pages."""
