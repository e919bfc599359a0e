"""The evaluator: finds out how good the answers of a collection are, by labelled queries."""
