"""The evaluator: judges a collection by labelled queries."""
