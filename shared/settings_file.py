"""Lines of ``settings.env``, written so that python-dotenv reads back every value exactly.

python-dotenv puts variables in for ``${…}`` whatever the quotes are, and how it reads a backslash differs between its
versions. Both are written as ``${:-x}``: a variable without a name, which always reads as its default ``x``.
"""

import re

from shared.errors import Invalid

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./\[\]-]*")
_ESCAPED = {"\\": r"${:-\}", '"': r"\"", "\n": r"\n", "\r": r"\r"}


def setting_line(name: str, value: str) -> str:
    """Return the line ``NAME=value``, quoted where it has to be.

    Raises:
        Invalid: The value is no text: a path with bytes that are not UTF-8, or a NUL.
    """
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise Invalid(f"{name} cannot be {value!r}: expected text in UTF-8; rename the folder")
    if _PLAIN.fullmatch(value):
        return f"{name}={value}"
    escaped = re.sub(r'[\\"\n\r]', lambda found: _ESCAPED[found[0]], value.replace("${", "${:-$}{"))
    return f'{name}="{escaped}"'
