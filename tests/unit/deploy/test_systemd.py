"""The systemd unit of the local system."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

UNIT = ROOT / "deploy" / "systemd" / "artseek.service"


def section(name: str) -> dict[str, str]:
    """The keys of a section; of one that is there several times, the last."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",), inline_comment_prefixes=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text("utf-8"))
    return dict(parser[name])


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze")
    unit = tmp_path / UNIT.name
    command = section("Service")["ExecStart"].split()[0]
    unit.write_text(UNIT.read_text("utf-8").replace(command, "/bin/true"), "utf-8")  # which is there
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_runs_the_local_system_on_loopback_in_a_folder_of_its_own() -> None:
    service = section("Service")
    command, up, *arguments = service["ExecStart"].split()
    assert (Path(command).name, up) == ("artseek", "up")
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert options == {"--data": f"/var/lib/{service['StateDirectory']}", "--port": "8080"}
    assert service["User"] != "root"
    assert (service["StateDirectoryMode"], service["UMask"]) == ("0700", "0077")


def test_the_service_may_do_no_more_than_it_must() -> None:
    service = section("Service")
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == ""
    assert service["ProtectSystem"] == "strict"
    assert (service["IPAddressDeny"], service["IPAddressAllow"]) == ("any", "localhost")
    for key in (
        "NoNewPrivileges",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectHome",
        "RestrictNamespaces",
        "LockPersonality",
    ):
        assert service[key] == "true"
    assert "MemoryDenyWriteExecute" not in service  # TensorFlow writes code of its own
