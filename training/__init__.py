"""Building, checking and exporting the embedding models."""
