"""Tests of the ways in: sessions, keys, share links and accounts, on real servers."""
