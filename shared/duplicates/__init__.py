"""Duplicates: pictures of a collection that show the same, in groups of which every pair is verified."""
