"""Keeps a collection in step with a folder: what is new, changed, moved or vanished."""
