"""What a test and its gated embedder agree on."""

SILENCE_S = 2
"""The embedder's visibility timeout, and how long an attempt's lease lasts."""

DIM = 4
"""Length of the embeddings of its model."""
