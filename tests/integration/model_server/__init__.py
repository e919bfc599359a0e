"""Tests of the model server as a process."""
