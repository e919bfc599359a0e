"""Cleans the file names that clients send, to be shown and sent back; they are never used as paths."""

import unicodedata

_LONGEST = 200  # characters
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
