"""The paths that an image is known by: where files with its content lie, or lay, in folders that are kept in step.

A path belongs to a *source*, the folder that it lies below. Of two entries for the same path of the same source, the
one with the later stamp counts, so changes may be applied in any order and more than once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

PathState = Literal["present", "vanished", "gone"]
"""`vanished`: the file was there and is not any more; `gone`: it has moved or was replaced, which nobody need know."""

PATH_STATES: Final[tuple[PathState, ...]] = get_args(PathState)


@dataclass(frozen=True)
class PathEntry:
    """What is known of a path since the moment `stamp`, in nanoseconds since 1970, and the label that it gives."""

    stamp: int
    state: PathState
    label: str | None = None

    def beats(self, other: "PathEntry | None") -> bool:
        """Return whether this entry counts, not the other for the same path; the same for both orders."""
        return other is None or self.rank > other.rank

    @property
    def rank(self) -> tuple[int, str, str]:
        """Of two entries for the same path the one with the greater rank counts."""
        return self.stamp, self.state, self.label or ""


Paths = dict[str, dict[str, PathEntry]]
"""The entries of an image by source and path."""


@dataclass(frozen=True)
class KnownPath:
    """A path of an image, as those see it who ask for the image."""

    source: str
    path: str
    state: PathState
    label: str | None = None


def merge_paths(paths: Paths, others: Mapping[str, Mapping[str, PathEntry]]) -> None:
    """Put the later ones of other entries into `paths`."""
    for source, entries in others.items():
        held = paths.setdefault(source, {})
        for path, entry in entries.items():
            if entry.beats(held.get(path)):
                held[path] = entry


def later_than(paths: Paths, stamp: int) -> Paths:
    """Return the entries that are later than a moment."""
    kept = {
        source: {path: entry for path, entry in entries.items() if entry.stamp > stamp}
        for source, entries in paths.items()
    }
    return {source: entries for source, entries in kept.items() if entries}


def known_paths(paths: Paths) -> list[KnownPath]:
    """Return the paths of an image in the order of their names."""
    return [
        KnownPath(source, path, entry.state, entry.label)
        for source in sorted(paths)
        for path, entry in sorted(paths[source].items())
    ]


def paths_in_state(known: Iterable[KnownPath], state: PathState) -> list[str]:
    """Return the paths that are in a state, each once, in the order of their names."""
    return sorted({path.path for path in known if path.state == state})


def all_paths(name: str, known: Sequence[KnownPath]) -> list[str]:
    """Return all paths of an image whose row has this name; that is one too, unless something else is known of it."""
    mentioned = {path.path for path in known}
    first = [name] if name and name not in mentioned else []
    return first + paths_in_state(known, "present")


def paths_to_json(paths: Paths) -> dict[str, Any]:
    """Return what is stored of paths."""
    return {
        source: {path: [entry.stamp, entry.state, entry.label] for path, entry in sorted(entries.items())}
        for source, entries in sorted(paths.items())
    }


def paths_from_json(stored: Mapping[str, Any]) -> Paths:
    """Return the paths that were stored."""
    return {
        source: {path: PathEntry(int(stamp), state, label) for path, (stamp, state, label) in entries.items()}
        for source, entries in stored.items()
    }
