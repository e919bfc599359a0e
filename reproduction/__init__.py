"""The university report that this program grew from, run again: its tables, beside what it says itself and theory."""
