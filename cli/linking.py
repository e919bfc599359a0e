"""`--link`: originals stay where they are, instead of being copied into the store."""

from collections.abc import Sequence
from pathlib import Path

import click

from cli.clients import System
from cli.command import RemoteSystem
from shared.errors import Invalid
from shared.storage.link_roots import SETTING

link_option = click.option(
    "--link",
    is_flag=True,
    help=f"Leave the files where they are, below a folder of {SETTING}, and copy none; they have to stay readable.",
)


def check_linking(system: System | RemoteSystem, paths: Sequence[Path]) -> None:
    """Make sure that files below these paths may be linked.

    Raises:
        Invalid: The system is another machine's, no folders are set, or a path lies below none of them.
    """
    if isinstance(system, RemoteSystem):
        raise Invalid(
            "--link works beside the servers, which read the files in their place: a system that ARTSEEK_URL names "
            "cannot read those of this machine; leave out --link, or run the command there"
        )
    roots = system.store.link_roots
    if not roots:
        raise Invalid(
            f"--link leaves files where they are, below folders that {SETTING} names, and it is not set: set it for "
            "this command and for all services"
        )
    for path in paths:
        roots.admitted(path)
