"""Share links: whoever has one may look at a collection, or at some of its images, until it ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.versioned import StoredKind

LINK: Final = StoredKind("share link")
MOST_DAYS: Final = 365
MOST_IMAGES: Final = 1_000
OPERATOR: Final = "command line"


@dataclass(frozen=True)
class ShareLink:
    """A share link.

    Attributes:
        id: What it is named by; the address of the link has it with a signature.
        collection: The collection that it opens.
        images: The images that it shows, the best hit first; none: all, and one may search.
        query: The image that these were found by; 0: none, or one that is not in the collection.
        account: Whose account made it; it ends when this account may not share any more. Empty: nobody's.
        created: When it was made, in seconds since 1970.
        expires: When it ends.
        key: The API key that it was made by, with which it ends; empty: none.
    """

    id: str
    collection: str
    images: tuple[int, ...]
    query: int
    account: str
    created: float
    expires: float
    key: str = ""

    @property
    def by(self) -> str:
        """Who made it, in words."""
        if self.key:
            return f"key {self.key}"
        return self.account or OPERATOR

    def to_json(self) -> dict[str, Any]:
        """Return the values to be stored."""
        return {**vars(self), "images": list(self.images)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ShareLink":
        """Return the link of stored values."""
        return cls(
            id=str(values["id"]),
            collection=str(values["collection"]),
            images=tuple(int(image) for image in values["images"]),
            query=int(values["query"]),
            account=str(values["account"]),
            created=float(values["created"]),
            expires=float(values["expires"]),
            key=str(values.get("key", "")),
        )
