"""The maintenance worker: tunes, rebuilds, compacts and drops, and changes collections to other models."""
