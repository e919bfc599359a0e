"""Words of records as they are indexed and searched: without case and accents, whatever the language."""

import re
from typing import Final

from shared.records.model import Cells, folded, values_of

_NO_SPACES: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f\u1780-\u17ff"
"""Scripts that set no spaces between words: each character counts as a word."""

_CHARACTER = re.compile(f"([{_NO_SPACES}])")
_WORD = re.compile(r"[^\W_]+\*?")
_QUOTED = re.compile(r'"([^"]*)"?|(\S+)')


def words_of(cells: Cells) -> str:
    """Return the text of a record: its values and labels that count."""
    texts = [value.text for name in sorted(cells) for value in values_of(cells, name) or ()]
    return _spaced("\n".join(texts))


def match_expression(text: str) -> str | None:
    """Return the expression of SQLite's FTS5 that finds texts with all words of `text`; None: it has no words.

    Words in quotes stand in this order; a word that ends with ``*`` begins a word.
    """
    phrases = []
    for quoted, bare in _QUOTED.findall(text):
        if words := _WORD.findall(_spaced(quoted or bare)):
            joined = " ".join(word.rstrip("*") for word in words)
            phrases.append(f'"{joined}"' + ("*" if words[-1].endswith("*") else ""))
    return " AND ".join(phrases) or None


def _spaced(text: str) -> str:
    return _CHARACTER.sub(r" \1 ", folded(text))
