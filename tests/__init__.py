"""The tests: unit (no server), integration (real servers), browser (a real Chromium)."""
