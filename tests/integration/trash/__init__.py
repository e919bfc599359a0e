"""Tests of deletion, the trash, restoring and purging, on real servers."""
