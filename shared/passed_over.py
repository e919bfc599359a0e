"""What lies in folders of images and is none: files that systems, programs and cameras leave there, and videos."""

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from typing_extensions import TypedDict

_FOLDERS: Final = {
    name.lower(): name
    for name in (
        "@eaDir",  # thumbnails of a Synology
        "@Recycle",
        "#recycle",
        "#snapshot",
        "lost+found",
        "__MACOSX",
        "$RECYCLE.BIN",
        "System Volume Information",
    )
}
_FILES: Final = {name.lower(): name for name in ("Thumbs.db", "ehthumbs.db", "desktop.ini", ".DS_Store", "Icon\r")}
_SIDECARS: Final = frozenset({".xmp", ".aae", ".thm", ".pp3", ".dop", ".on1", ".nksc", ".cos", ".arp"})
_UNFINISHED: Final = frozenset({".part", ".partial", ".crdownload", ".filepart", ".tmp"})
_VIDEOS: Final = frozenset(
    {
        *(".3g2", ".3gp", ".asf", ".avi", ".flv", ".insv", ".lrv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".vob", ".webm", ".wmv"),
    }
)


@dataclass
class PassedOver:
    """The files that a walk has passed over, by kind; of a folder of junk, each file counts."""

    by_kind: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        """Note a file."""
        self.by_kind.setdefault(kind, []).append(name)

    @property
    def counts(self) -> dict[str, int]:
        """How many files there were of each kind."""
        return {kind: len(names) for kind, names in sorted(self.by_kind.items())}


class PassedOverRules(TypedDict):
    """What is passed over, for programs that walk folders themselves: kinds by names in lower case, and by suffixes."""

    folders: dict[str, str]
    files: dict[str, str]
    suffixes: dict[str, str]


def passed_over_rules() -> PassedOverRules:
    """Return the names and suffixes that are passed over; hidden names are, too (`kind_of_file`)."""
    kinds = (("sidecar", _SIDECARS), ("video", _VIDEOS), ("unfinished", _UNFINISHED))
    return {
        "folders": dict(_FOLDERS),
        "files": {name: known.strip() for name, known in _FILES.items()},
        "suffixes": {suffix: kind for kind, suffixes in kinds for suffix in sorted(suffixes)},
    }


def kind_of_folder(name: str) -> str | None:
    """Return why no image is expected in a folder with this name; None: it is walked."""
    return _FOLDERS.get(name.lower()) or _hidden(name)


def kind_of_file(name: str) -> str | None:
    """Return why a file with this name is no image to take, None if it may be one."""
    if known := _FILES.get(name.lower()):
        return known.strip()
    if name.startswith("._"):  # what macOS keeps of a file where the file system has no place for it
        return "._*"
    if hidden := _hidden(name):
        return hidden
    suffix = PurePath(name).suffix.lower()
    if suffix in _SIDECARS:
        return "sidecar"
    if suffix in _VIDEOS:
        return "video"
    return "unfinished" if suffix in _UNFINISHED else None


def _hidden(name: str) -> str | None:
    """Say whether a name is a hidden one: ``...And Justice`` is none."""
    return "hidden" if name.startswith(".") and not name.startswith("..") else None
