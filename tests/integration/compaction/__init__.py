"""Compaction on real servers: nobody ever sees an image twice, not at all, or come back."""
