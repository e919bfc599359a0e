"""Whether the parts of the system are up: heartbeats, readiness, and the checks of containers."""
