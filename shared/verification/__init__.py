"""Verification: everything that is stored is read and compared, and what can be mended is mended."""
