"""Cleans the names and paths of files that clients send, to be shown and sent back; nothing is ever read there."""

import unicodedata

_LONGEST = 200  # characters
LONGEST_SENT = 1000  # characters of a name that is sent
_DEEPEST = 32  # folders of a path that are kept, the innermost ones
_REORDERING = {ord(character): None for character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def clean_name(name: str | None) -> str:
    """Return the last part of a file name without control characters, at most 200 characters, never empty.

    Characters that reverse the reading direction are removed: they make ``gpj.exe`` look like ``exe.jpg``.
    """
    last = (name or "").replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    text = unicodedata.normalize("NFC", last.encode("utf-8", "replace").decode()).translate(_REORDERING)
    text = "".join(character for character in text if unicodedata.category(character) != "Cc").strip()
    if len(text) > _LONGEST:
        stem, dot, suffix = text.rpartition(".")
        keep = dot + suffix if stem and len(suffix) <= 8 else ""
        text = text[: _LONGEST - len(keep)] + keep
    return text or "unnamed"


def clean_path(name: str) -> str:
    """Return the path by which an image is to be known: its parts cleaned, without those that lead elsewhere."""
    parts = [part for part in name.replace("\\", "/").split("/") if part.strip() not in {"", ".", ".."}]
    return "/".join(clean_name(part) for part in parts[-_DEEPEST:]) or "unnamed"


def sent_name(name: str) -> str:
    """Return the name by which a file is sent, which is taken as it is: cleaned, at most 1,000 characters."""
    return clean_path(clean_path(name)[-LONGEST_SENT:])
