"""The replica: a collection's segments as memory-mapped files on local disk, and the view that a search works on."""
