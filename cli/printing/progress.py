"""Progress on a terminal; nothing where standard error is none."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cli.printing.console import err, plain


@contextmanager
def spinner(description: str) -> Iterator[None]:
    """Show that something goes on, and for how long it has."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err.console, disable=not err.console.is_terminal, transient=True) as bar:
        bar.add_task(plain(description), total=None)
        yield


@contextmanager
def changing_spinner(description: str) -> Iterator[Callable[[str], None]]:
    """Show that something goes on, and at what it is; gives the function that takes that in words."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err.console, disable=not err.console.is_terminal, transient=True) as bar:
        task = bar.add_task(plain(description), total=None)
        yield lambda text: bar.update(task, description=plain(f"{description}: {text}"))


@contextmanager
def job_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of the steps of a job; gives the function that takes how many are done, and of how many."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err.console, disable=not err.console.is_terminal, transient=True) as bar:
        task = bar.add_task(plain(description), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


@contextmanager
def image_bar(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar of images with rate and remaining time; gives the function that takes how many are done."""
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} images/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err.console, disable=not err.console.is_terminal) as bar:
        task = bar.add_task("ingest", total=total, rate="–")
        started = time.monotonic()

        def on_progress(done: int) -> None:
            bar.update(task, completed=done, rate=f"{done / max(time.monotonic() - started, 1e-3):.0f}")

        yield on_progress


@contextmanager
def object_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of objects; gives the function that takes how many are done, and how many there are."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err.console, disable=not err.console.is_terminal, transient=True) as bar:
        task = bar.add_task(plain(description), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
