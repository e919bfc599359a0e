"""Proof that two pictures show the same: local features of each, and one geometry that lays one over the other."""
