"""``python -m cli``: the `artseek` command."""

from cli.main import main

if __name__ == "__main__":
    main()
