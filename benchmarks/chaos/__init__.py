"""Chaos: random work and searches on a whole system whose processes die, stop and forget, compared with a model."""
