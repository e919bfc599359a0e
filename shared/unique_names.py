"""Names of files that are handed in together, made unique, so that a reason why one is not taken leads to its file."""

from pathlib import PurePosixPath


class UniqueNames:
    """Gives names out once each."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}  # by name: the last number that was given out with it

    def take(self, name: str, *alternatives: str) -> str:
        """Return the first name that is free, or `name` with a number: a second ``a.jpg`` is ``a (2).jpg``."""
        for candidate in (name, *alternatives):
            if candidate not in self._taken:
                self._taken[candidate] = 1
                return candidate
        path = PurePosixPath(name)
        number = self._taken[name]
        while True:
            number += 1
            numbered = (
                str(path.with_name(f"{path.stem} ({number}){path.suffix}")) if path.name else f"{name} ({number})"
            )
            if numbered not in self._taken:
                self._taken[name], self._taken[numbered] = number, 1
                return numbered
