"""The index of a collection: what the object store and Redis hold of it together."""
