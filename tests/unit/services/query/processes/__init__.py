"""The processes of a query service share requests and counts."""
