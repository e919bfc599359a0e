"""The demonstration: a gallery of sample works made on the spot."""
