"""The embedder: image bytes → checked RGB → model server → vector segment."""
