"""Reads the container files, the settings that they give, and the import graph of the code that goes into an image."""

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic import SecretStr

from cli.main import COMMANDS
from shared.health import container_check
from shared.settings import Settings, environment_name
from tests.support.paths import ROOT

PACKAGES = ("shared", "services", "cli", "local", "training")
COMPOSE = ROOT / "docker-compose.yml"
OVERRIDE = ROOT / "deploy" / "model-server.yml"
SEAWEEDFS = ROOT / "deploy" / "seaweedfs.yml"
SCALE = ROOT / "docker-compose.scale.yml"
OVERLAYS = (OVERRIDE, SEAWEEDFS, ROOT / "deploy" / "openid.yml", SCALE)

SECRET_FILES = {
    f"{environment_name(field)}_FILE": field
    for field, info in Settings.model_fields.items()
    if info.annotation is SecretStr
}
ENVIRONMENT_NAMES = {environment_name(field): field for field in Settings.model_fields} | SECRET_FILES
CLIENTS = ("embedder", "indexer", "maintenance", "evaluator", "query", "web", "producer")
ENTRIES = {
    "embedder": "services.embedder.app",
    "indexer": "services.indexer.app",
    "maintenance": "services.maintenance.app",
    "evaluator": "services.evaluator.app",
    "query": "services.query.__main__",
    "web": "services.web.__main__",
    "producer": "cli.__main__",
    "model": "training.export",
    "model-server": "services.model_server.__main__",
}

_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?:(:[-?])([^}]*))?\}")


@cache
def compose() -> dict[str, Any]:
    """The compose file as it is written, with merge keys resolved."""
    return dict(yaml.safe_load(COMPOSE.read_text("utf-8")))


@cache
def override() -> dict[str, Any]:
    """The compose file for machines without tensorflow/serving."""
    return dict(yaml.safe_load(OVERRIDE.read_text("utf-8")))


@cache
def overlay(path: Path) -> dict[str, Any]:
    """A compose file that is laid over the first."""
    return dict(yaml.safe_load(path.read_text("utf-8")))


def services() -> dict[str, dict[str, Any]]:
    """The services of the compose file, by name."""
    return dict(compose()["services"])


def ours() -> dict[str, str]:
    """The target of every service that is built here, by the service's name."""
    return {name: service["build"]["target"] for name, service in services().items() if "build" in service}


def variables(text: str) -> list[tuple[str, str, str]]:
    """Each variable that a text takes from the environment: name, operator (``:-``, ``:?`` or none), operand."""
    return [(found[1], found[2] or "", found[3] or "") for found in _VARIABLE.finditer(text)]


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """A value of the compose file as a container gets it."""

    def value(found: re.Match[str]) -> str:
        name, operator, operand = found.groups()
        if environment.get(name):
            return environment[name]
        if operator != ":-":
            raise KeyError(name)
        return str(operand)

    return _VARIABLE.sub(value, text).replace("$$", "$")


@dataclass(frozen=True)
class Stage:
    """A stage of the Dockerfile: what it is built from, and its instructions with their arguments, in order."""

    parent: str
    instructions: list[tuple[str, str]]

    def arguments(self, instruction: str) -> list[str]:
        """The arguments of every instruction of that name."""
        return [arguments for name, arguments in self.instructions if name == instruction]

    def command(self) -> list[str]:
        """The entry point and the command, as a container starts with them."""
        last = [text for name in ("ENTRYPOINT", "CMD") for text in self.arguments(name)[-1:]]
        return [word for text in last for word in json.loads(text)]

    def environment(self) -> dict[str, str]:
        """The environment that the stage itself sets."""
        return dict(pair.split("=", 1) for text in self.arguments("ENV") for pair in text.split())


@cache
def stages() -> dict[str, Stage]:
    """The stages of the Dockerfile, by name; what stands before the first is the stage ``""``."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"))
    found = {"": Stage("", [])}
    current = found[""]
    for line in text.replace("\\\n", " ").splitlines():
        instruction, _, arguments = line.strip().partition(" ")
        if instruction == "FROM":
            parent, _, name = arguments.split()
            current = found[name] = Stage(parent, [])
        elif instruction:
            current.instructions.append((instruction, " ".join(arguments.split())))
    return found


def targets() -> dict[str, Stage]:
    """The stages that are meant to be run."""
    return {name: stage for name, stage in stages().items() if stage.arguments("CMD")}


def copied(target: str) -> list[str]:
    """The paths of this repository whose code goes into a target."""
    sources = [arguments.split()[:-1] for arguments in stages()[f"{target}-builder"].arguments("COPY")]
    return [path for paths in sources for path in paths if path.startswith(PACKAGES)]


@cache
def file_of(module: str) -> Path | None:
    """The file of a module of ours; None if it is none."""
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def imports_of(node: ast.AST, module: str) -> Iterator[str]:
    """The modules that running a piece of code of `module` imports, functions included, type checking excluded."""
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{module} imports relatively"
        yield from (f"{node.module}.{name.name}" for name in node.names)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in map(_last_name, ast.walk(node.test)):
        for statement in node.orelse:
            yield from imports_of(statement, module)
    else:
        if isinstance(node, ast.Call) and _last_name(node.func) in {"import_quietly", "import_without_keras"}:
            assert isinstance(node.args[0], ast.Constant), f"{module} imports what only its running tells"
            yield str(node.args[0].value)
        for child in ast.iter_child_nodes(node):
            yield from imports_of(child, module)


def _last_name(node: ast.AST) -> str | None:
    """The name that stands in an expression, or behind its last dot."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


@cache
def tree_of(module: str) -> ast.Module:
    """The syntax tree of a module of ours."""
    file = file_of(module)
    assert file is not None, f"there is no module {module}"
    return ast.parse(file.read_text("utf-8"))


@cache
def all_imports_of(module: str) -> tuple[str, ...]:
    """The modules that running all of a module of ours imports."""
    return tuple(imports_of(tree_of(module), module))


def closure(entries: Mapping[str, ast.AST | None]) -> tuple[set[str], set[str]]:
    """What running modules needs: the modules of ours, and the names imported from elsewhere.

    `entries` are the modules to begin with; a syntax tree given with one stands for the part of it that is run.
    """
    seen: set[str] = set()
    foreign: set[str] = set()
    waiting: dict[str, ast.AST | None] = dict(entries)
    while waiting:
        module, tree = waiting.popitem()
        seen.add(module)
        # The packages that a module lies in are run before it.
        parents = [module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)]
        for name in [*parents, *(imports_of(tree, module) if tree else all_imports_of(module))]:
            if name.split(".")[0] not in PACKAGES:
                foreign.add(name)
                continue
            inner = name if file_of(name) else name.rpartition(".")[0]
            if inner not in seen:
                waiting.setdefault(inner, None)
    return seen, {name for name in foreign if name.split(".")[0] not in sys.stdlib_module_names}


def secrets_of(service: str) -> dict[str, str]:
    """The files of secrets/ that a container gets, by their names in /run/secrets."""
    files = {name: Path(secret["file"]).name for name, secret in compose()["secrets"].items()}
    given = services()[service].get("secrets", [])
    return {
        **{name: files[name] for name in given if isinstance(name, str)},
        **{long["target"]: files[long["source"]] for long in given if not isinstance(long, str)},
    }


def environment(service: str, secrets: Mapping[str, str]) -> dict[str, str]:
    """The environment that a service of ours gets: the image's, and over it the compose file's."""
    stage = stages()[ours()[service]]
    given = services()[service].get("environment", {})
    return stage.environment() | {name: interpolated(str(text), secrets) for name, text in given.items()}


def settings(service: str, secrets: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that a service of ours reads from that environment."""
    for name in ENVIRONMENT_NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, text in environment(service, secrets).items():
        if name in SECRET_FILES:  # which lies in the container
            file = secrets_of(service)[text.removeprefix("/run/secrets/")]
            monkeypatch.setenv(name.removesuffix("_FILE"), secrets[file])
        else:
            monkeypatch.setenv(name, text)
    return Settings(_env_file=None)  # type: ignore[call-arg]


STARTED: Final = {"shared.index.proofs": "shared.proof.child"}
"""Modules that others start by their names, as processes of their own."""


@cache
def needs(target: str) -> tuple[set[str], set[str]]:
    """The modules of ours that a target runs, its health check included, and the foreign names that they import."""
    entries: dict[str, ast.AST | None] = {ENTRIES[target]: None}
    if target == "producer":  # each command is imported when it is called
        entries |= {place.target.partition(":")[0]: None for place in COMMANDS.values()}
    if target in container_check.CHECKS:
        entries["shared.health.container_check"] = _only_the_check_of(target)
    modules, foreign = closure(entries)
    started = {child: None for module, child in STARTED.items() if module in modules}
    return closure(entries | started) if started else (modules, foreign)


def _only_the_check_of(service: str) -> ast.Module:
    tree = tree_of("shared.health.container_check")
    wanted = {container_check.CHECKS[service].__name__}
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(functions[min(wanted)]):
        if isinstance(node, ast.Name) and node.id in functions:
            wanted.add(node.id)
    rest = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    return ast.Module([*rest, *(functions[name] for name in sorted(wanted))], [])
