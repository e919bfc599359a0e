"""Tests of the container files and the monitoring, which no engine runs here."""
