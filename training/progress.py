"""Progress bars on the terminal, if standard error is one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

ProgressBars = Callable[[str], Callable[[int, int], None]]
"""Takes a description of some work; returns a function to call with how many steps are done, and how many there are."""


@contextmanager
def progress_bars() -> Iterator[ProgressBars]:
    """Show a bar for the work that goes on, one at a time; on leaving, it disappears."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def bar(description: str) -> Callable[[int, int], None]:
            def on_progress(done: int, total: int) -> None:
                if description not in tasks:
                    for task in tasks.values():
                        bars.remove_task(task)
                    tasks.clear()
                    tasks[description] = bars.add_task(description, total=total)
                bars.update(tasks[description], completed=done, total=total)

            return on_progress

        yield bar
