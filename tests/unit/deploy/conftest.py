"""The passwords of a system in containers."""

import re
import subprocess

import pytest

from tests.support.paths import ROOT


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The passwords that the command in .env.example makes."""
    folder = tmp_path_factory.mktemp("env")
    example = (ROOT / ".env.example").read_text("utf-8")
    command = "\n".join(re.findall(r"(?m)^#   (\(umask .*)$", example))
    subprocess.run(["/bin/sh", "-euc", command], cwd=folder, check=True)
    made = folder / ".env"
    assert made.stat().st_mode & 0o077 == 0
    return dict(line.split("=", 1) for line in made.read_text("ascii").splitlines())
