"""The query service: vector → candidates → exact re-rank → hits, over a memory-mapped local copy of the segments."""
