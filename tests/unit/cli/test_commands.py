"""The list of commands, and what starting one imports."""

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cli.main import COMMANDS, main
from tests.support.paths import ROOT

NO_SYSTEM = {"ARTSEEK_DATA": "/no/such/folder", "ARTSEEK_URL": ""}
SLOW = {"celery", "minio", "numpy", "pyarrow", "redis", "pydantic_settings", "pydantic", "grpc", "urllib3", "rich"}


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


def imported(arguments: list[str], **environment: str) -> set[str]:
    """Return the slow libraries that a command has imported by its end."""
    return asked_after(arguments, f"' '.join({SLOW!r} & sys.modules.keys())", **environment)


def asked_after(arguments: list[str], expression: str, **environment: str) -> set[str]:
    """Return the words of an expression's value in the process of a command, at the command's end."""
    code = (
        "import sys\nfrom cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write('\\n' + {expression})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stderr.splitlines()[-1].split()) if not done.stderr.endswith("\n") else set()


def test_help_imports_nothing_slow() -> None:
    assert imported(["--help"]) == set()


def test_a_search_imports_what_it_needs_to_ask_the_query_service() -> None:
    assert imported(["search", "--help"]) <= {"grpc"}
    # There is no query service at this address: the search is over once it has asked.
    asked = imported(["search", "--id", "1"], ARTSEEK_QUERY_TARGET="127.0.0.1:1", **NO_SYSTEM)
    assert asked - {"rich"} == {"grpc", "pydantic", "pydantic_settings"}  # Rich prints that it does not answer


def test_a_command_does_not_search_all_packages_for_plugins_of_pydantic() -> None:
    found = "str(sys.modules['pydantic.plugin._loader']._plugins)"
    at_nobody = {"ARTSEEK_QUERY_TARGET": "127.0.0.1:1", **NO_SYSTEM}
    assert asked_after(["search", "--id", "1"], found, **at_nobody) == {"None"}
    assert asked_after(["search", "--id", "1"], found, PYDANTIC_DISABLE_PLUGINS="", **at_nobody) == {"{}"}
