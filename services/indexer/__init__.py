"""The indexer: vector segment → bucket keys → Redis sets; and everything else that changes a collection's index."""
