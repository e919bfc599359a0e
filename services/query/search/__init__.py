"""A search: probe, candidates, exact re-rank."""
