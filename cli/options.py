"""Options that several commands have, and an exit status that several end with."""

import click

from shared.errors import ArtseekError
from shared.storage.layout import collection_name

SOME_REJECTED = 3
"""Exit status of a command that did its work but left some images out."""


def checked_collection(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return the value of an option if it can name a collection, or is not given."""
    try:
        return None if value is None else collection_name(value)
    except ArtseekError as error:
        raise click.BadParameter(str(error)) from error


DEFAULT_COLLECTION = "default"
in_collection = click.option(
    "--collection",
    default=DEFAULT_COLLECTION,
    show_default=True,
    callback=checked_collection,
    help="Name of the collection.",
)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
