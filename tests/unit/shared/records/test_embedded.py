"""What image files say of themselves, whatever their kind; what is damaged says nothing."""

import io
import struct
import sys
import zlib
from types import FrameType

import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from shared.images.decoder_pool import DecoderPool
from shared.records.embedded import pack_said, read_said, said_by, sidecar_fields
from shared.records.metadata_blocks import SAMPLE, Blocks, find_blocks
from shared.records.model import Value
from tests.support.bombs import chunk, png, tiff
from tests.support.raw_files import box

_XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 photoshop:City="Haarlem" photoshop:Country="NL" photoshop:DateCreated="1652"><dc:title><rdf:Alt>
 <rdf:li xml:lang="x-default">Mühle</rdf:li><rdf:li xml:lang="de">Mühle</rdf:li><rdf:li xml:lang="en">Mill</rdf:li>
 </rdf:Alt></dc:title><dc:subject><rdf:Bag><rdf:li>mill</rdf:li><rdf:li>river</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x010F], exif[0x0110] = "A caption", "Ann Ax; Ben", "Canon", "Canon EOS"
    exif.get_ifd(0x8769)[0x9003] = "2021:05:03 12:30:00"
    return exif


def _iptc(*values: tuple[int, bytes]) -> bytes:
    block = b"\x1c\x01\x5a\x00\x03\x1b%G"
    for number, value in values:
        block += bytes([0x1C, 2, number]) + len(value).to_bytes(2, "big") + value
    resource = b"8BIM\x04\x04\0\0" + len(block).to_bytes(4, "big") + block + b"\0" * (len(block) % 2)
    return b"Photoshop 3.0\0" + resource


def _jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=_exif().tobytes(), xmp=_XMP)
    part = _iptc(
        (80, "Käthe".encode()), (25, b"sea"), (25, b"boat"), (90, b"Berlin"), (101, b"Germany"), (55, b"19070300")
    )
    return b"\xff\xd8\xff\xed" + (len(part) + 2).to_bytes(2, "big") + part + file.getvalue()[2:]


def _texts(fields: dict[str, tuple[Value, ...]]) -> dict[str, list[str]]:
    return {name: [value.text for value in values] for name, values in fields.items()}


def test_a_jpeg_says_what_each_of_its_blocks_says() -> None:
    found = said_by(find_blocks(_jpeg()))
    assert found["xmp"]["title"] == (Value("Mühle", "de"), Value("Mill", "en"))
    assert _texts(found["xmp"]) | {"title": []} == {
        "title": [], "keywords": ["mill", "river"], "place": ["Haarlem, NL"], "date": ["1652"],
    }  # fmt: skip
    assert _texts(found["iptc"]) == {
        "creator": ["Käthe"], "keywords": ["sea", "boat"], "place": ["Berlin, Germany"], "date": ["1907-03"],
    }  # fmt: skip
    assert _texts(found["exif"]) == {
        "caption": ["A caption"], "creator": ["Ann Ax", "Ben"], "date": ["2021-05-03T12:30:00"],
        "camera": ["Canon EOS"],
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_files_of_other_kinds_say_so_too(kind: str) -> None:
    file = io.BytesIO()
    if kind == "TIFF":
        tags = ImageFileDirectory_v2()
        tags[270], tags[700] = "A caption", _XMP
        Image.new("RGB", (8, 8)).save(file, kind, tiffinfo=tags)
    else:
        Image.new("RGB", (8, 8)).save(file, kind, exif=_exif().tobytes(), **({"xmp": _XMP} if kind == "WEBP" else {}))
    found = said_by(find_blocks(file.getvalue()))
    assert _texts(found["exif"])["caption"] == ["A caption"]
    assert kind == "PNG" or _texts(found["xmp"])["keywords"] == ["mill", "river"]


def test_damage_and_traps_say_nothing() -> None:
    whole = _jpeg()
    for size in range(0, len(whole), 37):
        said_by(find_blocks(whole[:size]))
        said_by(find_blocks(whole[:size] + bytes(64) + whole[size + 64 :]))
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>'
    assert sidecar_fields(bomb) == {}
    assert sidecar_fields(_XMP)["place"] == (Value("Haarlem, NL"),)


@pytest.mark.parametrize("begin", [b"<?xpacket", b"<x:xmpmeta", b"<rdf:RDF"])
@pytest.mark.parametrize("before", [b"", b'<?xml version="1.0" encoding="UTF-8"?>\n', b"\xef\xbb\xbf"])
def test_xmp_is_read_whatever_it_begins_with(begin: bytes, before: bytes) -> None:
    block = before + _XMP[_XMP.find(begin) :] + b"\n"
    assert sidecar_fields(block)["keywords"] == (Value("mill"), Value("river"))


def test_a_decoding_process_reads_the_blocks_of_a_file() -> None:
    blocks = find_blocks(_jpeg())
    sample = {"xmp": {"credit": ["Ann"]}, "iptc": {"creator": ["Ann"]}, "exif": {"creator": ["Ann"]}}
    pool = DecoderPool(processes=1)
    try:
        assert read_said(pool.metadata(blocks.pack())) == said_by(blocks)
        assert {origin: _texts(said) for origin, said in read_said(pool.metadata(SAMPLE)).items()} == sample
        assert read_said(pool.metadata(Blocks(xmp=b"<", exif=b"II").pack())) == {}
        assert read_said(pool.metadata(blocks.pack())) == said_by(blocks)
    finally:
        pool.close()


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"[]", b"no", b"[" * 100_000, b"\xff", b'{"xmp": 1}', b'{"xmp": {"title": 1}}'),
        *(b'{"xmp": {"title": [{}]}}', b'{"edit": {"title": ["x"]}}'),
        b'{"exif": {"title": [["x", "y", "z"]]}}',
    ],
)
def test_an_answer_that_is_none_says_nothing(answer: bytes) -> None:
    assert read_said(answer) == {}


def test_what_was_said_is_read_as_it_was() -> None:
    said = said_by(find_blocks(_jpeg()))
    assert read_said(pack_said(said)) == said


def test_of_an_avif_the_exif_block_alone_is_read() -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x13B] = "Ann"
    Image.new("RGB", (64, 64), "red").save(file, "AVIF", exif=exif.tobytes())
    data = file.getvalue()
    blocks = find_blocks(data)
    assert blocks.exif.startswith((b"II*\0", b"MM\0*"))
    assert len(blocks.exif) < 64
    assert said_by(blocks)["exif"]["creator"] == (Value("Ann", None),)
    for end in range(0, len(data), 7):  # a file that breaks off says less, and that is all
        find_blocks(data[:end])


def test_a_small_file_asks_for_few_steps_of_whoever_looks_for_its_blocks() -> None:
    """Places without sizes take no bytes, however many there are."""
    item = struct.pack(">HHH", 7, 0, 65_535)
    places = struct.pack(">IBBH", 0, 0, 0, 4096) + item * 4095 + struct.pack(">HHH", 1, 0, 65_535)
    infos = bytes(4) + struct.pack(">H", 1) + box(b"infe", b"\x02\0\0\0\0\x01\0\0Exif\0")
    meta = box(b"meta", bytes(4) + box(b"iinf", infos) + box(b"iloc", places))
    data = box(b"ftyp", b"crx \0\0\0\1crx isom") + meta
    assert len(data) < 25_000
    assert _within(200_000, data).exif == b""


def _within(calls: int, data: bytes) -> Blocks:
    """Return the blocks of a file, which are found by so many calls at most."""
    left = calls

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal left
        left -= event in {"call", "c_call"}
        if not left:
            pytest.fail(f"it took more than {calls} calls")

    sys.setprofile(count)
    try:
        return find_blocks(data)
    finally:
        sys.setprofile(None)


def test_of_many_blocks_the_first_counts() -> None:
    def itxt(text: bytes) -> bytes:
        return chunk(b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0" + zlib.compress(text))

    assert find_blocks(png(8, 8, before=itxt(b"first") + itxt(b"second"))).xmp == b"first"
    webp = b"".join(kind + struct.pack("<I", 2) + body for kind, body in ((b"XMP ", b"12"), (b"XMP ", b"34")))
    assert find_blocks(b"RIFF\0\0\0\0WEBP" + webp).xmp == b"12"
    body = b"\x01\x02\x03\x1c\x08\x07\x06\x05"  # numbers of four bytes in the other order
    assert find_blocks(tiff({33_723: (4, 2, 8)}, body)).iptc == b"\x1c\x03\x02\x01\x05\x06\x07\x08"


def test_bytes_that_fill_between_the_segments_of_a_jpeg_are_passed_over() -> None:
    whole = _jpeg()
    assert find_blocks(whole[:2] + b"\xff" * 1000 + whole[2:]) == find_blocks(whole)
