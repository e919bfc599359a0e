"""The list of commands, and what starting one imports."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain

import click
import pytest
from click.testing import CliRunner

from cli.command import FROM_AFAR, WORKS_FROM_AFAR
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


def from_afar(command: click.Command, name: str) -> Iterator[str]:
    """Yield the commands that work with a system on another machine; a group by its name, if all of it does."""
    if isinstance(command, click.Group):
        parts = {part: list(from_afar(command.commands[part], f"{name} {part}")) for part in command.commands}
        yield from [name] if len(parts) > 1 and all(parts.values()) else chain.from_iterable(parts.values())
    elif command.callback is not None and WORKS_FROM_AFAR in vars(command.callback):
        yield name


def test_what_works_from_afar_is_named_by_the_refusal_of_the_others_and_by_the_docs() -> None:
    found = [each for name, place in sorted(COMMANDS.items()) for each in from_afar(place.load(), name)]
    assert tuple(found) == FROM_AFAR
    text = " ".join((ROOT / "docs" / "security.md").read_text("utf-8").split())
    (named,) = re.findall(r"`artseek ([^.:;]*)` work with these two", text)
    assert re.split(r"`, `|` and `", named) == list(FROM_AFAR)
    refused = CliRunner().invoke(main, ["tune"], env={"ARTSEEK_URL": "https://archive.example", "ARTSEEK_KEY": "k"})
    assert refused.exit_code == 1
    assert f"{', '.join(FROM_AFAR[:-1])} and {FROM_AFAR[-1]} work from here" in " ".join(refused.output.split())


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
