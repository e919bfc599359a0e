"""The classes of an image: the values of one field, by which an evaluation tells whether a hit is relevant.

A hit is relevant if it shares a value with its query.
"""

from collections.abc import Sequence
from typing import Final

from shared.records.index_tables import term_of
from shared.records.model import LABEL
from shared.rpc.query import Image
from shared.schemas.images import record_of, value_text

_SEPARATOR: Final = "|"

Classes = tuple[str, ...]


def classes_of(image: Image, field: str) -> Classes:
    """Return the classes of an image that came with the field; none: it is a distractor."""
    if field == LABEL:
        return tuple(image.labels) or ((image.label,) if image.label else ())
    values = record_of(image)["fields"].get(field, ())
    return tuple(dict.fromkeys(term_of(value_text(value["value"])) for value in values))


def class_text(classes: Sequence[str]) -> str:
    r"""Return classes as one text, which `read_classes` reads: ``oil|canvas``; a ``|`` in a name is ``\|``."""
    return _SEPARATOR.join(name.replace("\\", "\\\\").replace(_SEPARATOR, "\\|") for name in classes)


def read_classes(text: str) -> Classes:
    """Return the classes that a text names; none, if it is empty."""
    if "\\" not in text:
        return tuple(text.split(_SEPARATOR)) if text else ()
    names, name, escaped = [], "", False
    for char in text:
        if escaped:
            name, escaped = name + char, False
        elif char == "\\":
            escaped = True
        elif char == _SEPARATOR:
            names.append(name)
            name = ""
        else:
            name += char
    return (*names, name)
