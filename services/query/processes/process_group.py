"""What one process of a query service knows of the others: where each listens for them, and how busy it is."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from services.query.processes.load_board import LoadBoard

_BOARD = "loads"


@dataclass(frozen=True)
class ProcessGroup:
    """A process's place in its group.

    Attributes:
        folder: Where the group has its sockets and what it counts: for the owner alone, gone when the service ends.
        number: Which process this is, from 0 on.
        count: How many processes there are.
    """

    folder: Path
    number: int
    count: int

    @cached_property
    def board(self) -> LoadBoard:
        """How busy each process is."""
        return LoadBoard(board_path(self.folder), self.count)

    @property
    def socket(self) -> Path:
        """Where this process listens for the others and for the supervisor."""
        return socket_path(self.folder, self.number)

    def records(self, copy: Path) -> Path:
        """Return the folder of the query service's copy below which this process keeps records.

        An index of records is written by one process alone: each has its own.
        """
        return copy if self.number == 0 else copy / f"process-{self.number}"


def board_path(folder: Path) -> Path:
    """Return where the load board of a group is."""
    return folder / _BOARD


def socket_path(folder: Path, number: int) -> Path:
    """Return the socket of a process of a group, which nobody but the owner of the folder can reach."""
    return folder / str(number)


def records_of_others(copy: Path, count: int) -> list[Path]:
    """Return the folders of records of processes that there were when the service had more than `count`."""
    folders = (folder for folder in copy.glob("process-*") if folder.name.removeprefix("process-").isdecimal())
    return [folder for folder in folders if int(folder.name.removeprefix("process-")) >= count]
