"""The processes of one query service: a supervisor, and processes that share its port, its files and its requests."""
