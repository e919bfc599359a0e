"""A group of commands, of which only the one that is called is imported: importing all of them takes a second."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import click


@dataclass(frozen=True)
class CommandPlace:
    """Where a command is defined, as ``module:name``, and its line in the list of commands."""

    target: str
    short_help: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, name = self.target.partition(":")
        return cast("click.Command", getattr(importlib.import_module(module), name))


class LazyGroup(click.Group):
    """A group that lists its commands without importing them."""

    def __init__(self, *arguments: object, places: Mapping[str, CommandPlace], **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.places = places

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- as Click calls it
        """Return the names of the commands in the order of the alphabet."""
        return sorted(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 -- as Click calls it
        """Import a command, or return None if there is none of this name."""
        place = self.places.get(cmd_name)
        return None if place is None else place.load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, each with its line."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.places[name].short_help) for name in self.list_commands(ctx)])
