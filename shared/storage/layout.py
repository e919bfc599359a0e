"""Where everything lies in the object store: the keys, and the identity of an image.

images/<sha256>                                       originals, shared by all collections
links/<sha256>.json                                   originals that are not copied: where their owner has them
derivatives/<sha256>                                  JPEGs of large originals, as pages show them
thumbnails/<sha256>                                   JPEGs of at most 256 pixels of originals
features/<sha256>                                     local features of originals, by which copies are proved
collections/<name>.json                               manifests of the embedding sets in use
embedding-sets/<set>.json                             manifests of embedding sets that are being filled, or were in use
vectors/<set>/<segment>.arrow                         vector segments, written once
tombstones/<set>/<segment>/<id>                       empty objects: this row of this segment is deleted
tombstones/<set>/<segment>/<digest>.json              lists: these rows of this segment are deleted
merges/<set>/<segment>.json                           segments that are being merged into this one
indexes/<set>/<generation>.npz                        index generations, written once
indexes/<set>/<generation>.json                       what was predicted and measured of each
indexes/<set>/current.json                            which generation is in use
maps/<set>/map.npz                                    where the images of an embedding set lie on its map
set-aside/<sha256>.json                               images that killed their worker repeatedly
documents/<sha256>.json                               how many pages an original has, where it has several
trash/<collection>/<sha256>.json                      images that were deleted, and can be restored for a while
trash/<collection>/batches/<digest>.json              lists: several such images, which were deleted together
records/<collection>/<change>.jsonl.gz                what is known of the images: changes, and merges of changes
renames/<name>.json                                   what a collection is called now that had this name
renaming/<name>.json                                  which collection is just being given this name
evaluations/ … kept-queries/                          evaluations, duplicates, queries: see `evaluation_layout`
access/, audit/                                       accounts and the like: see `access_layout`
system.json                                           which system this store belongs to
restoring.json                                        only while a backup is restored: which, and how far

An embedding set is what one model version makes of a collection. The first has the collection's name, each
later set a dot and a number after it; no name of a collection holds a dot. Numbers are not used again when a name is:
the first set of a collection that has the name of a renamed one has the next number after the last.

The windows of a collection's images, where its regions are indexed, are a collection of their own for all that works
on manifests, segments, tombstones, merges and generations. It is called <name>~regions, as no user can call one. A row
of it is a window: its digest is that of the image's original, its name says where in the image the window is.
"""

import hashlib
import re
import secrets
import time
from pathlib import Path

from shared.errors import Invalid

SYSTEM = "system.json"
RESTORING = "restoring.json"
ORIGINALS = "images/"
LINKS = "links/"
DERIVATIVES = "derivatives/"
THUMBNAILS = "thumbnails/"
FEATURES = "features/"
DOCUMENTS = "documents/"
VECTORS = "vectors/"
COLLECTIONS = "collections/"
EMBEDDING_SETS = "embedding-sets/"
MAPS = "maps/"
SET_ASIDE = "set-aside/"
TRASH = "trash/"
RECORDS = "records/"
RENAMES = "renames/"
RENAMING = "renaming/"
_MERGED = "merged-"
DIGEST_PATTERN = re.compile(r"[0-9a-f]{64}")
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_OF_REGIONS = "~regions"
_GENERATION = re.compile(rf"indexes/{NAME_PATTERN.pattern}(?:{_OF_REGIONS})?(?:\.\d+)?/(\d+)\.(?:npz|json)")
_TOMBSTONE = re.compile(r"tombstones/[^/]+/([^/]+)/([0-9]+)")
_TOMBSTONE_LIST = re.compile(r"tombstones/[^/]+/([^/]+)/[0-9a-f]{32}\.json")
_TRASH_ENTRY = re.compile(rf"trash/({NAME_PATTERN.pattern})/({DIGEST_PATTERN.pattern})\.json")
_TRASH_BATCH = re.compile(rf"trash/({NAME_PATTERN.pattern})/batches/[0-9a-f]{{32}}\.json")
_RECORD_CHANGE = re.compile(rf"records/({NAME_PATTERN.pattern})/([0-9a-f]{{16}}-[0-9a-f]{{8}})\.jsonl\.gz")
ID_BITS = 53  # what a JSON number holds exactly in every language


def collection_name(name: str) -> str:
    """Return `name` if it may name a collection.

    Raises:
        Invalid: It is not 1 to 63 lower-case letters, digits, ``-`` and ``_``, starting with a letter or digit.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise Invalid(
            f"{name[:80]!r} cannot name a collection: use 1 to 63 of a-z, 0-9, '-' and '_', "
            "starting with a letter or digit"
        )
    return name


def stored_name(name: str) -> str:
    """Return `name` if a manifest may be stored under it: the name of a collection, or of a collection's regions.

    Raises:
        Invalid: It is neither.
    """
    collection_name(collection_with(name))
    return name


def regions_of(collection: str) -> str:
    """Return the name under which the windows of a collection's images are stored."""
    return f"{collection}{_OF_REGIONS}"


def is_regions(name: str) -> bool:
    """Return whether the name of a collection, or of an embedding set, is that of the regions of another."""
    return collection_of(name).endswith(_OF_REGIONS)


def collection_with(name: str) -> str:
    """Return the name of the collection whose regions have a name; that of any other collection is its own."""
    return name.removesuffix(_OF_REGIONS)


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of an image's bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of an image in a file, which is read a part at a time.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_digest(text: str) -> bool:
    """Return whether a text is a SHA-256 in hexadecimal digits."""
    return DIGEST_PATTERN.fullmatch(text) is not None


def image_id(digest: str) -> int:
    """Return the integer id of the image with this SHA-256: its first 53 bits.

    The id follows from the content, so that a task which runs twice, or a rebuild, cannot give an image another one.
    Among a million images two share an id with probability 6e-5; the second then counts as a duplicate of the first.
    """
    return max(1, int(digest[:16], 16) >> (64 - ID_BITS))


def window_id(digest: str, number: int) -> int:
    """Return the integer id of a window of the image with this SHA-256; the numbers count from 0."""
    return image_id(digest_of(f"{digest}/{number}".encode()))


def original_key(digest: str) -> str:
    """Return the key of an original."""
    return f"{ORIGINALS}{digest}"


def link_key(digest: str) -> str:
    """Return the key of the object that says where an original is that is not copied."""
    return f"{LINKS}{digest}.json"


def original_of(key: str) -> str:
    """Return the digest of the original that an original's, or link's, key names."""
    return key.rpartition("/")[2].removesuffix(".json")


def links_prefix(image_id: int) -> str:
    """Return what the keys of the links of the images with this id start with, and of a few others."""
    return LINKS + originals_prefix(image_id).removeprefix(ORIGINALS)


def derivative_key(digest: str) -> str:
    """Return the key of the derivative of an original."""
    return f"{DERIVATIVES}{digest}"


def thumbnail_key(digest: str) -> str:
    """Return the key of the thumbnail of an original."""
    return f"{THUMBNAILS}{digest}"


def features_key(digest: str) -> str:
    """Return the key of the local features of an original."""
    return f"{FEATURES}{digest}"


def document_key(digest: str) -> str:
    """Return the key of what is known of an original of several pages."""
    return f"{DOCUMENTS}{digest}.json"


def documents_prefix(image_id: int) -> str:
    """Return what the keys of the documents with this id start with, and of a few others."""
    return DOCUMENTS + originals_prefix(image_id).removeprefix(ORIGINALS)


def originals_prefix(image_id: int) -> str:
    """Return what the keys of the originals of the images with this id start with, and of a few others."""
    return original_key(f"{image_id << (64 - ID_BITS):016x}"[: ID_BITS // 4])


def manifest_key(collection: str) -> str:
    """Return the key of a collection's manifest."""
    return f"{COLLECTIONS}{collection}.json"


def embedding_set_name(collection: str, number: int) -> str:
    """Return the name of a collection's embedding set."""
    return f"{collection}.{number}" if number else collection


def collection_of(set_name: str) -> str:
    """Return the name of the collection that an embedding set is one of."""
    return set_name.partition(".")[0]


def number_of(set_name: str) -> int:
    """Return the number of an embedding set among those of its collection."""
    return int(set_name.partition(".")[2] or 0)


def embedding_sets_prefix(collection: str) -> str:
    """Return what the keys of the manifests of a collection's embedding sets that are not in use start with."""
    return f"{EMBEDDING_SETS}{collection}."


def embedding_set_key(set_name: str) -> str:
    """Return the key of the manifest of an embedding set that is not in use."""
    return f"{EMBEDDING_SETS}{set_name}.json"


def rename_key(collection: str) -> str:
    """Return the key of the object that says what a collection is called now that had this name."""
    return f"{RENAMES}{collection}.json"


def renaming_key(collection: str) -> str:
    """Return the key of the object that says which collection is just being given a name."""
    return f"{RENAMING}{collection}.json"


def segments_prefix(set_name: str) -> str:
    """Return what the keys of an embedding set's segments start with."""
    return f"{VECTORS}{set_name}/"


def segment_key(set_name: str, segment: str) -> str:
    """Return the key of a segment."""
    return f"{segments_prefix(set_name)}{segment}.arrow"


def segment_of(key: str) -> str:
    """Return the name of the segment with this key."""
    return key.rsplit("/", 1)[-1].removesuffix(".arrow")


def new_merged_segment() -> str:
    """Return a name for a segment that others are merged into, never given twice, which sorts behind theirs.

    A listing of tombstones goes by the names of segments: it cannot miss one that moves from an input to the result.
    """
    return f"{_MERGED}{time.time_ns():016x}{secrets.token_hex(3)}"


def is_merged(segment: str) -> bool:
    """Return whether a segment was made of others."""
    return segment.startswith(_MERGED)


def batch_segment(job: str, batch: int) -> str:
    """Return the name of the segment that a batch of a job is written to."""
    return f"{job}-{batch:06d}"


def batch_of(segment: str) -> tuple[str, int] | None:
    """Return the job and the number of the batch that a segment was written for; None for a merged one."""
    job, _, batch = segment.rpartition("-")
    return (job, int(batch)) if job and batch.isdecimal() and not is_merged(segment) else None


def merges_prefix(set_name: str) -> str:
    """Return what the keys of an embedding set's merges in progress start with."""
    return f"merges/{set_name}/"


def merge_key(set_name: str, merged: str) -> str:
    """Return the key of the object that says what is being merged into a segment."""
    return f"{merges_prefix(set_name)}{merged}.json"


def tombstones_prefix(set_name: str) -> str:
    """Return what the keys of an embedding set's tombstones start with."""
    return f"tombstones/{set_name}/"


def tombstone_key(set_name: str, segment: str, image_id: int) -> str:
    """Return the key of the tombstone of a row."""
    return f"{tombstones_prefix(set_name)}{segment}/{image_id}"


def tombstone_of(key: str) -> tuple[str, int] | None:
    """Return segment and id of the row whose tombstone has this key; None for any other key."""
    found = _TOMBSTONE.fullmatch(key)
    return (found[1], int(found[2])) if found else None


def tombstone_list_key(set_name: str, segment: str, digest: str) -> str:
    """Return the key of a list of tombstones of a segment, given its SHA-256."""
    return f"{tombstones_prefix(set_name)}{segment}/{digest[:32]}.json"


def tombstone_list_of(key: str) -> str | None:
    """Return the segment whose list of tombstones has this key; None for any other key."""
    found = _TOMBSTONE_LIST.fullmatch(key)
    return found[1] if found else None


def indexes_prefix(set_name: str) -> str:
    """Return what the keys of an embedding set's index generations start with."""
    return f"indexes/{set_name}/"


def generation_key(set_name: str, generation: int) -> str:
    """Return the key of an index generation."""
    return f"{indexes_prefix(set_name)}{generation:06d}.npz"


def generation_report_key(set_name: str, generation: int) -> str:
    """Return the key of the report on an index generation."""
    return f"{indexes_prefix(set_name)}{generation:06d}.json"


def generation_of(key: str) -> int | None:
    """Return the number of the generation whose arrays or report have this key; None for any other key."""
    found = _GENERATION.fullmatch(key)
    return int(found[1]) if found else None


def current_index_key(set_name: str) -> str:
    """Return the key of the object that says which generation is in use."""
    return f"{indexes_prefix(set_name)}current.json"


def maps_prefix(set_name: str) -> str:
    """Return what the key of an embedding set's map starts with."""
    return f"{MAPS}{set_name}/"


def map_key(set_name: str) -> str:
    """Return the key of an embedding set's map."""
    return f"{maps_prefix(set_name)}map.npz"


def set_aside_key(digest: str) -> str:
    """Return the key of the report on an image that was set aside."""
    return f"{SET_ASIDE}{digest}.json"


def trash_prefix(collection: str) -> str:
    """Return what the keys of the entries in a collection's trash start with."""
    return f"{TRASH}{collection}/"


def trash_key(collection: str, digest: str) -> str:
    """Return the key of the entry of an image in a collection's trash."""
    return f"{trash_prefix(collection)}{digest}.json"


def trash_entry_of(key: str) -> tuple[str, str] | None:
    """Return collection and digest of the image whose trash entry has this key; None for any other key."""
    found = _TRASH_ENTRY.fullmatch(key)
    return (found[1], found[2]) if found else None


def trash_batches_prefix(collection: str) -> str:
    """Return what the keys of the batches of a collection's trash start with."""
    return f"{trash_prefix(collection)}batches/"


def trash_batch_key(collection: str, digest: str) -> str:
    """Return the key of images that are deleted together, by a SHA-256 that tells them from all others."""
    return f"{trash_batches_prefix(collection)}{digest[:32]}.json"


def trash_batch_of(key: str) -> str | None:
    """Return the collection whose trash has a batch with this key; None for any other key."""
    return found[1] if (found := _TRASH_BATCH.fullmatch(key)) else None


def records_prefix(collection: str) -> str:
    """Return what the keys of the changes of a collection's records start with."""
    return f"{RECORDS}{collection}/"


def record_change_key(collection: str, change: str) -> str:
    """Return the key of a change of a collection's records."""
    return f"{records_prefix(collection)}{change}.jsonl.gz"


def record_change_of(key: str) -> tuple[str, str] | None:
    """Return the collection and the name of the change of records with this key; None for any other key."""
    return (found[1], found[2]) if (found := _RECORD_CHANGE.fullmatch(key)) else None
