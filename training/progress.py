"""Progress bars of work that goes on in steps, on the terminal if there is one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def progress_bars() -> Iterator[Any]:
    """Give a function from what is done to what is told of it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def of(what: str) -> Any:
            def tell(done: int, total: int) -> None:
                if what not in tasks:
                    for task in tasks.values():
                        bars.remove_task(task)
                    tasks.clear()
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done, total=total)

            return tell

        yield of
