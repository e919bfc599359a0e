"""The query service: vector → candidates → exact re-rank → hits, over a memory-mapped replica of the segments."""
