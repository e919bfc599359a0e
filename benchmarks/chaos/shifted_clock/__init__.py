"""The module that shifts a clock, in a folder that is put on PYTHONPATH."""
