"""The `artseek` command: a file for each group of commands; what prints stands apart from what asks."""
