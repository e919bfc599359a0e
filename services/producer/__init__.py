"""Walks folders, stores originals and fills the queue; makes the sample gallery."""
