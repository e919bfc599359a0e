"""What the commands of `artseek` have in common: the system that they reach, their exit status and errors.

What takes long to import is imported where it is used, so that a command starts at once.
"""

import functools
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from cli.printing.console import err, print_error
from shared.errors import ArtseekError, Invalid, Misconfigured, Unavailable
from shared.logs import configure

if TYPE_CHECKING:
    from pydantic import ValidationError

    from cli.clients import System
    from cli.remote.api import Api
    from shared.rpc.query import QueryClient
    from shared.settings import Settings

FROM_AFAR: Final = (
    *("compare", "duplicates", "evaluate", "export", "ingest", "judge", "map", "records import", "search", "share"),
    "sync",
)
"""The commands that work with a system on another machine, in the order of the alphabet."""
WORKS_FROM_AFAR: Final = "works_from_afar"  # an attribute of what runs such a command
_CHECK_S = 2.0


@dataclass(frozen=True, kw_only=True)
class RemoteSystem:
    """A system that is reached by its API alone, and the settings of this machine."""

    api: "Api"
    settings: "Settings"


@dataclass(frozen=True, kw_only=True)
class QueriedSystem:
    """A running system that is asked by its query service alone, and the settings that say how to reach it."""

    settings: "Settings"

    def query(self) -> "QueryClient":
        """Return a client of the query service."""
        from shared.rpc.query.connecting import connect_query

        return connect_query(self.settings)


def command(run: Callable[..., int | None]) -> Callable[..., None]:
    """Give a command the running system, and turn its errors into a line and an exit status."""

    def connect(settings: "Settings") -> "System":
        if settings.url:
            name = click.get_current_context().command_path
            raise Invalid(
                f"ARTSEEK_URL names a remote system, and `{name}` works beside the servers: run it on their machine, "
                f"without ARTSEEK_URL; {', '.join(FROM_AFAR[:-1])} and {FROM_AFAR[-1]} work from here"
            )
        return _connect(settings)

    return _with_system(run, connect)


def command_anywhere(run: Callable[..., int | None]) -> Callable[..., None]:
    """Give a command the system whose page is at ARTSEEK_URL, or else the running one; see `command`."""
    return _from_afar(run, lambda settings: _connect_remotely(settings) if settings.url else _connect(settings))


def query_command(run: Callable[..., int | None]) -> Callable[..., None]:
    """Give a command the system whose page is at ARTSEEK_URL, or else what asks the query service; see `command`."""
    return _from_afar(
        run,
        lambda settings: _connect_remotely(settings) if settings.url else QueriedSystem(settings=settings),
    )


def _from_afar(
    run: Callable[..., int | None], connect: Callable[["Settings"], QueriedSystem | RemoteSystem]
) -> Callable[..., None]:
    wrapper = _with_system(run, connect)
    wrapper.__dict__[WORKS_FROM_AFAR] = True
    return wrapper


def _connect_remotely(settings: "Settings") -> RemoteSystem:
    from cli.remote.api import Api

    return RemoteSystem(
        api=Api(settings.url, settings.key.get_secret_value(), ca_file=settings.url_ca_file), settings=settings
    )


def _connect(settings: "Settings") -> "System":
    from cli.clients import connect_system
    from shared.system_identity import check_own_system

    with suppress(Unavailable):  # the command says what is away, if it needs that
        check_own_system(settings, settings.broker_url, timeout_s=_CHECK_S)
    return connect_system(settings)


def _with_system(
    run: Callable[..., int | None], connect: Callable[["Settings"], QueriedSystem | RemoteSystem]
) -> Callable[..., None]:
    @functools.wraps(run)
    def wrapper(*arguments: Any, **options: Any) -> None:
        # Pydantic would look through all installed packages for plugins.
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
        from pydantic import ValidationError

        from shared.settings import load_settings

        url = ""
        try:
            settings = load_settings()
            url = settings.url
            configure("WARNING")
            status = run(connect(settings), *arguments, **options)
        except (ArtseekError, OSError) as error:
            print_error(error)
            if isinstance(error, Unavailable) and not isinstance(error, Misconfigured) and not url:
                err.print("Is the system running? `artseek status` tells which part is not.", style="dim")
            sys.exit(1)
        except ValidationError as error:
            _print_settings_error(error)
            sys.exit(1)
        except ValueError as error:
            print_error(error)
            sys.exit(1)
        except KeyboardInterrupt:
            err.print("\nartseek: interrupted")
            sys.exit(130)
        sys.exit(status or 0)

    return wrapper


def _print_settings_error(error: "ValidationError") -> None:
    """Print which settings do not fit, by the names that they have in the environment, without their values."""
    from shared.settings import environment_name

    for item in error.errors(include_url=False, include_input=False):
        words = item["msg"].removeprefix("Value error, ")
        name = environment_name(str(item["loc"][0])) if item["loc"] else ""
        print_error(f"{name}: {words[:1].lower()}{words[1:]}" if name else words)
