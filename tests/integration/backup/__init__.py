"""Backups: repositories, what a backup holds, and the way back."""
