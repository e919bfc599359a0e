"""The object store: keys, collections and their embedding sets, vector segments."""
