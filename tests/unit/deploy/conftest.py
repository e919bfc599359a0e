"""The secrets of a system in containers."""

import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.fixture(scope="session")
def secrets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that deploy/make-secrets.sh makes."""
    folder = tmp_path_factory.mktemp("compose")
    subprocess.run(["/bin/sh", str(ROOT / "deploy" / "make-secrets.sh")], cwd=folder, check=True)
    return folder / "secrets"


@pytest.fixture(scope="session")
def secrets(secrets_folder: Path) -> dict[str, str]:
    """The secrets in these files, by the file."""
    return {file.name: file.read_text("ascii") for file in secrets_folder.iterdir()}
