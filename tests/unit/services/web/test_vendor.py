"""What others wrote and the pages load: as its makers published it, and with its licences."""

import hashlib
import re

from tests.support.paths import ROOT

_FOLDER = ROOT / "services" / "web" / "static" / "vendor"


def test_each_file_is_the_published_one_that_the_notice_names() -> None:
    notice = (_FOLDER / "NOTICE.txt").read_text(encoding="utf-8")
    named = dict(re.findall(r"^(\S+\.js) is .*\nSHA-256 ([0-9a-f]{64})$", notice, re.MULTILINE))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in _FOLDER.glob("*.js")}
    assert found == named
    assert found
    for words in (
        "Apache License 2.0",
        "Copyright (c) 2017, Baidu Inc.",
        "Copyright 2010-2016 Mike Bostock",
        "2010-2024 OpenSeadragon",
    ):
        assert words in notice
