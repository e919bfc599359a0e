"""Unit tests of the embedder."""
