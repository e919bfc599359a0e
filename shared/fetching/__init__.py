"""Fetching pictures from addresses that users name, without reaching what only this machine can reach."""
