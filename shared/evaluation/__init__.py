"""Evaluations: metrics of rankings, query sets, grids, reports and their rows."""
