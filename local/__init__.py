"""The whole system on one machine, as child processes of one parent in the foreground."""
