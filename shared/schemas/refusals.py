"""Files that are not taken, as API and `--json` tell of them."""

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12


class Refusal(TypedDict):
    """A file that is not taken: its name, a short code, and a sentence that says why and what helps."""

    name: str
    code: str
    reason: str
