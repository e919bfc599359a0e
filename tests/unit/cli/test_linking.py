"""`--link` is refused before anything happens where files cannot be linked."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.command import RemoteSystem
from cli.linking import check_linking
from shared.errors import Invalid
from shared.storage.link_roots import LinkRoots


def system(roots: str) -> Any:
    return SimpleNamespace(store=SimpleNamespace(link_roots=LinkRoots.parse(roots)))


def test_only_folders_below_a_root_of_this_machine_are_linked(tmp_path: Path) -> None:
    masters = tmp_path / "masters"
    (masters / "1900").mkdir(parents=True)
    check_linking(system(str(masters)), [masters, masters / "1900"])
    (masters / "out").symlink_to(tmp_path)
    for path in (tmp_path, masters / "out"):
        with pytest.raises(Invalid, match="below none of the folders of ARTSEEK_LINK_ROOTS"):
            check_linking(system(str(masters)), [masters, path])
    with pytest.raises(Invalid, match="ARTSEEK_LINK_ROOTS names, and it is not set"):
        check_linking(system(""), [masters])
    remote: Any = RemoteSystem(api=None, settings=None)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="ARTSEEK_URL names cannot read"):
        check_linking(remote, [masters])
