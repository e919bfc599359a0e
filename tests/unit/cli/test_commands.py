"""The list of commands, and what starting one imports."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cli.main import COMMANDS, main
from tests.support.paths import ROOT

SLOW = {"celery", "minio", "numpy", "pyarrow", "redis", "pydantic_settings", "grpc"}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_where_the_list_says(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_the_list_gives_each_command_a_whole_line() -> None:
    printed = CliRunner().invoke(main, ["--help"]).output
    for name, place in COMMANDS.items():
        assert f"  {name.ljust(13)}{place.short_help}\n" in printed


def imported(arguments: list[str]) -> set[str]:
    """Return the slow libraries that a command has imported by its end."""
    code = (
        "import sys\nfrom cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(' '.join({SLOW!r} & sys.modules.keys()))"
    )
    return set(
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
        ).stderr.split()
    )


def test_help_imports_nothing_slow() -> None:
    assert imported(["--help"]) == set()


def test_a_search_imports_what_it_needs_to_ask_the_query_service() -> None:
    assert imported(["search", "--help"]) <= {"grpc", "numpy", "pydantic_settings"}
