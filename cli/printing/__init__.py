"""What the commands print: tables, lines and JSON on standard output, progress and errors on standard error."""
