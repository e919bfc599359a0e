"""Sidecars of uploads: XMP files of a form, which say more of the images that they are named after."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.web.uploads import Upload
from shared.records.embedded import Fields, sidecar_fields
from shared.records.metadata_blocks import MAX_BLOCK
from shared.schemas.refusals import Refusal
from shared.storage.layout import image_id

_SUFFIX = ".xmp"
_PART = 2**20  # bytes read at a time


@dataclass(frozen=True)
class WithSidecars:
    """The images of a form, the fields that sidecars say of some, by image id, and sidecars that were refused."""

    images: Sequence[Upload]
    said: Mapping[int, Fields]
    refused: Sequence[Refusal]


def with_sidecars(uploads: Sequence[Upload]) -> WithSidecars:
    """Tell the sidecars of a form from its images: ``a.xmp`` and ``a.jpg.xmp`` are sidecars of ``a.jpg``."""
    sidecars = [upload for upload in uploads if upload.name.lower().endswith(_SUFFIX)]
    if not sidecars:
        return WithSidecars(uploads, {}, [])
    images = [upload for upload in uploads if upload not in sidecars]
    by_name: dict[str, list[Upload]] = {}
    for image in images:
        for name in {image.name, _stem(image.name)}:
            by_name.setdefault(name, []).append(image)
    said: dict[int, Fields] = {}
    refused = []
    for sidecar in sidecars:
        of = by_name.get(_stem(sidecar.name), [])
        fields = sidecar_fields(sidecar.read()) if of and sidecar.size <= MAX_BLOCK else {}
        if not of:
            refused.append(_refusal(sidecar, "no image of the form has its name: send it with its image"))
        elif not fields:
            refused.append(_refusal(sidecar, f"it is no XMP of at most {MAX_BLOCK:,} bytes, or says nothing"))
        said.update({_id_of(image): fields for image in of if fields})
    return WithSidecars(images, said, refused)


def _stem(name: str) -> str:
    """Return the name of a file without its last suffix."""
    folder, slash, base = name.rpartition("/")
    stem, dot, _ = base.rpartition(".")
    return f"{folder}{slash}{stem}" if dot and stem else name


def _refusal(sidecar: Upload, reason: str) -> Refusal:
    return Refusal(name=sidecar.name, code="sidecar", reason=reason)


def _id_of(upload: Upload) -> int:
    digest, stream = hashlib.sha256(), upload.file.stream
    stream.seek(0)
    while part := stream.read(_PART):
        digest.update(part)
    stream.seek(0)
    return image_id(digest.hexdigest())
