"""Maps of collections: their images laid out by likeness, computed by the maintenance worker and kept in the store."""
