"""What image files and their sidecars say: EXIF, IPTC-IIM and XMP become values of fields.

A block that cannot be read says nothing: a picture is taken whatever its metadata is.
"""

import io
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from xml.etree.ElementTree import Element

import exifread
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from shared.errors import Invalid
from shared.records.metadata_blocks import MAX_BLOCK, Blocks
from shared.records.model import Origin, Value, checked_values, field_name

_log = logging.getLogger(__name__)
logging.getLogger("exifread").setLevel(logging.CRITICAL)  # it logs what it does not know of each file

Fields = dict[str, tuple[Value, ...]]

EMBEDDED: Final[Sequence[Origin]] = ("xmp", "iptc", "exif")
"""The origins of what an image file says of itself."""

_DC, _PHOTOSHOP = "{http://purl.org/dc/elements/1.1/}", "{http://ns.adobe.com/photoshop/1.0/}"
_XMP, _RIGHTS = "{http://ns.adobe.com/xap/1.0/}", "{http://ns.adobe.com/xap/1.0/rights/}"
_IPTC_CORE = "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}"
_RDF, _LANG = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}", "{http://www.w3.org/XML/1998/namespace}lang"
_OF_XMP: Final[Mapping[str, Sequence[str]]] = {  # the first that says anything counts
    "title": (f"{_DC}title", f"{_PHOTOSHOP}Headline"),
    "caption": (f"{_DC}description",),
    "creator": (f"{_DC}creator",),
    "date": (f"{_PHOTOSHOP}DateCreated", f"{_XMP}CreateDate"),
    "credit": (f"{_PHOTOSHOP}Credit",),
    "rights": (f"{_DC}rights",),
    "keywords": (f"{_DC}subject",),
    "source": (f"{_PHOTOSHOP}Source", f"{_DC}source"),
    "identifier": (f"{_DC}identifier",),
    "url": (f"{_RIGHTS}WebStatement",),
}
_PLACE_OF_XMP: Final = (
    f"{_IPTC_CORE}Location",
    f"{_PHOTOSHOP}City",
    f"{_PHOTOSHOP}State",
    f"{_PHOTOSHOP}Country",
)
_OF_IPTC: Final[Mapping[str, Sequence[int]]] = {  # numbers of data sets of record 2
    "title": (5, 105),
    "caption": (120,),
    "creator": (80,),
    "date": (55,),
    "credit": (110,),
    "rights": (116,),
    "keywords": (25,),
    "source": (115,),
}
_PLACE_OF_IPTC: Final = (92, 90, 95, 101)
_UTF_8: Final = b"\x1b%G"
_JUNK: Final = frozenset(
    {"olympus digital camera", "sony dsc", "samsung camera pictures", "digital camera", "minolta digital camera"}
    | {"konica minolta digital camera", "exif_jpeg_picture", "default", "untitled", "unknown"}
)
_DAY: Final = re.compile(r"(\d{4})[:-]?(\d{2})[:-]?(\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2})?).*)?")


def pack_said(said: Mapping[Origin, Fields]) -> bytes:
    """Return what metadata say as JSON."""
    named = {
        origin: {name: [value.to_json() for value in values] for name, values in fields.items()}
        for origin, fields in said.items()
    }
    return json.dumps(named).encode()


def read_said(data: bytes) -> dict[Origin, Fields]:
    """Return what `pack_said` has packed in a process that must not be believed; empty: nothing, or no such thing."""
    try:
        named = json.loads(data or b"{}")
        return {origin: _read_fields(named[origin]) for origin in EMBEDDED if origin in named}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        _log.warning("what metadata were read as is no answer: %s", error)
        return {}


def _read_fields(named: Mapping[str, Any]) -> Fields:
    fields: Fields = {}
    for name, stored in named.items():
        given = [{"value": value.value, "lang": value.lang} for value in map(Value.from_json, stored)]
        fields[field_name(name)] = tuple(value for item in given for value in checked_values(name, item))
    return fields


def said_by(blocks: Blocks) -> dict[Origin, Fields]:
    """Return what blocks of metadata say, by origin; what says nothing is left out."""
    found: dict[Origin, Fields] = {
        "xmp": _guarded(xmp_fields, blocks.xmp),
        "iptc": _guarded(_iptc_fields, blocks.iptc),
        "exif": _guarded(_exif_fields, blocks.exif),
    }
    return {origin: fields for origin, fields in found.items() if fields}


def sidecar_fields(data: bytes) -> Fields:
    """Return what an XMP file says of the image that it lies beside."""
    return _guarded(xmp_fields, data)


def xmp_fields(block: bytes) -> Fields:
    """Return what an XMP block says.

    Raises:
        ValueError: It is no XMP.
    """
    if len(block) > MAX_BLOCK:
        return {}
    if (start := block.find(b"<x:xmpmeta")) < 0 and (start := block.find(b"<rdf:RDF")) >= 0:
        block = block[: block.rfind(b"</rdf:RDF>") + len(b"</rdf:RDF>")]
    root = ElementTree.fromstring(block[max(start, 0) :].rstrip(b"\0 \r\n\t"))
    said: dict[str, list[dict[str, Any]]] = {}
    for description in root.iter(f"{_RDF}Description"):
        for name, text in description.attrib.items():
            said.setdefault(name, []).append({"value": text})
        for element in description:
            said.setdefault(element.tag, []).extend(_items(element))
    fields: dict[str, Iterable[object]] = {}
    for field, names in _OF_XMP.items():
        fields[field] = next((said[name] for name in names if said.get(name)), ())
    place = [str(said[name][0]["value"]) for name in _PLACE_OF_XMP if said.get(name)]
    return _checked({**fields, "place": [", ".join(place)] if place else ()})


def _items(element: Element) -> list[dict[str, Any]]:
    """Return the values of a property: of its list of alternatives or members, or its text."""
    members = list(element.iter(f"{_RDF}li"))
    if not members:
        return [{"value": element.text}] if element.text and element.text.strip() else []
    items = []
    for member in members:
        lang = member.get(_LANG, "")
        if member.text and member.text.strip():
            items.append({"value": member.text, "lang": None if lang in {"", "x-default"} else lang})
    texts = [item["value"] for item in items if item["lang"] is not None]
    return [item for item in items if item["lang"] is not None or item["value"] not in texts]


def _iptc_fields(block: bytes) -> Fields:
    said: dict[int, list[bytes]] = {}
    encoding, place = "", 0
    while place + 5 <= len(block) and block[place] == 0x1C:
        record, number, size = block[place + 1], block[place + 2], int.from_bytes(block[place + 3 : place + 5], "big")
        if size & 0x8000:  # of more than 32 KiB: nothing that is wanted here
            break
        value = block[place + 5 : place + 5 + size]
        if (record, number) == (1, 90):
            encoding = "utf-8" if value == _UTF_8 else ""
        elif record == 2:
            said.setdefault(number, []).append(value)
        place += 5 + size
    texts = {number: [_text(value, encoding) for value in values] for number, values in said.items()}
    fields = {
        field: next((texts[number] for number in numbers if texts.get(number)), ())
        for field, numbers in _OF_IPTC.items()
    }
    places = [texts[number][0] for number in _PLACE_OF_IPTC if texts.get(number)]
    return _checked({**fields, "place": [", ".join(places)] if places else ()})


def _text(value: bytes, encoding: str) -> str:
    for name in (encoding or "utf-8", "cp1252"):
        try:
            return value.decode(name)
        except UnicodeDecodeError:
            continue
    return value.decode("latin-1")


def _exif_fields(block: bytes) -> Fields:
    tags: Mapping[str, Any] = exifread.process_file(io.BytesIO(block), details=False, extract_thumbnail=False)

    def text(name: str) -> str:
        return str(tags[name]).strip().rstrip("\0") if name in tags else ""

    def wide(name: str) -> str:
        held = getattr(tags.get(name), "values", None)
        return bytes(held).decode("utf-16-le", "ignore").rstrip("\0") if isinstance(held, list) else text(name)

    camera = text("Image Model")
    maker = text("Image Make")
    if camera and maker and not camera.lower().startswith(maker.lower().split()[0]):
        camera = f"{maker} {camera}"
    return _checked(
        {
            "title": [wide("Image XPTitle")],
            "caption": [text("Image ImageDescription")],
            "creator": re.split(r"\s*;\s*", text("Image Artist")),
            "rights": [text("Image Copyright")],
            "keywords": re.split(r"\s*;\s*", wide("Image XPKeywords")),
            "date": [text("EXIF DateTimeOriginal") or text("EXIF DateTimeDigitized")],
            "camera": [camera],
        }
    )


def _checked(fields: Mapping[str, Iterable[object]]) -> Fields:
    found: Fields = {}
    for name, items in fields.items():
        values: list[Value] = []
        for item in items:
            given = item if isinstance(item, Mapping) else {"value": item}
            text = str(given["value"]).strip()
            if not text or text.lower() in _JUNK:
                continue
            try:
                values += checked_values(name, {**given, "value": _day(text) if name == "date" else text})
            except Invalid:
                continue
        if values := [value for value in values if name != "url" or str(value.value).startswith("http")]:
            found[name] = tuple(dict.fromkeys(values))
    return found


def _day(text: str) -> str:
    """Return a date of a camera as people write it; one that was never set is none."""
    found = _DAY.fullmatch(text)
    if found is None:
        return text
    year, month, day, time = found.groups()
    if (year, month) == ("0000", "00"):
        return ""
    if month == "00":
        return year
    written = f"{year}-{month}" if day == "00" else f"{year}-{month}-{day}"
    return f"{written}T{time}" if time else written


def _guarded(read: Callable[[bytes], Fields], block: bytes) -> Fields:
    if not block:
        return {}
    try:
        return read(block)
    except (ElementTree.ParseError, DefusedXmlException) as error:
        _log.debug("XMP that cannot be read: %s", error)
    except Exception as error:  # whatever a library makes of bytes that anybody may have written
        _log.debug("metadata that cannot be read: %s: %s", type(error).__name__, error)
    return {}
