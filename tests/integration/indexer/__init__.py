"""The indexer on real servers: what it does twice, or dies in the middle of, ends as if it had been done once."""
