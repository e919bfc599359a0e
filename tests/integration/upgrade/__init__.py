"""Data folders that earlier versions wrote, and what a search of them answered."""
