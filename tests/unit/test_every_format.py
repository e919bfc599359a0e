"""Every format that the decoder takes is taken at first sight, whichever way a file comes in."""

from contextlib import closing
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cli.remote.files import parts_of
from services.producer.ingest import finder
from services.producer.sync.digest_cache import DigestCache
from services.producer.sync.scan import ScanOptions, scan
from shared.fetching.fetcher import Fetcher, FetchLimits
from shared.folders import walk
from shared.images import identify
from shared.images.contract import MEDIA_TYPES
from shared.storage.link_roots import LinkRoots
from tests.support.heic import HEIC
from tests.support.http_answers import answering
from tests.support.pictures import photograph, saved
from tests.support.raw_files import SENSOR, cr3, raf, rw2

MOST = 10**7
KINDS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "tiff": "TIFF", "bmp": "BMP", "avif": "AVIF"}
KINDS |= {"jp2": "JPEG2000", "pdf": "PDF"}
PICTURE = photograph(*SENSOR)
FILES = {f"a.{name}": (name, saved(PICTURE, kind)) for name, kind in KINDS.items()} | {"a.heic": ("heic", HEIC)}
FILES |= {f"a.{kind.__name__}": ("raw", kind(saved(PICTURE, "JPEG"))) for kind in (raf, rw2, cr3)}


def test_the_files_have_every_format() -> None:
    assert {name for name, _ in FILES.values()} == set(MEDIA_TYPES)


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_taken_whichever_way_it_comes_in(file: str, tmp_path: Path) -> None:
    name, data = FILES[file]
    folder = tmp_path / "art"
    folder.mkdir()
    path = folder / file
    path.write_bytes(data)
    assert identify(data).format == name  # an upload
    (source,) = walk([folder], labels_from_folders=False)
    assert finder(source, max_bytes=MOST)() == data
    assert finder(source, max_bytes=MOST, roots=LinkRoots([folder]))() == path  # to be linked
    assert list(parts_of([source], max_bytes=MOST, rejected=[])) == [[(source, data)]]  # to be sent to another system
    with closing(DigestCache(tmp_path / "cache" / "files.sqlite")) as cache:
        found = scan(folder, cache, ScanOptions(max_bytes=MOST, judge="this version"), pause=lambda _: None)
    assert ([one.source.path for one in found.files], found.rejected) == ([path], [])
    with answering(lambda _: (200, {}, data)) as address:
        port = urlsplit(address).port or 0
        fetched = BytesIO()
        Fetcher(FetchLimits(MOST), allowed=[f"127.0.0.1:{port}"], ports=[port]).fetch(address, fetched)
    assert fetched.getvalue() == data
