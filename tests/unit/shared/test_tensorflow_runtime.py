"""Starting TensorFlow: oneDNN is on in every program of ours, and its messages at start are held back."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.tensorflow_runtime import ONEDNN_VARIABLE, import_quietly
from tests.support import container_files
from tests.support.paths import ROOT

LIBRARIES = {"tensorflow", "tensorflow_serving", "keras"}
PACKAGES = ("shared", "services", "cli", "local", "training", "reproduction", "benchmarks")


def imported(path: Path) -> Iterator[str]:
    """Yield the names at the top of what a source file imports, wherever in it, but for types alone."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def packages_with_tensorflow() -> list[str]:
    """Return the packages of which a module imports TensorFlow or Keras by an import statement."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    # To parse every file would take seconds.
    likely = (path for path in files if any(library in path.read_text("utf-8") for library in LIBRARIES))
    folders = {path.parent.relative_to(ROOT) for path in likely if LIBRARIES & set(imported(path))}
    return sorted(folder.as_posix().replace("/", ".") for folder in folders)


def run(code: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )


def onednn_after(code: str, **environment: str) -> str:
    """Return the variable's value after some code, in a process that began without it or with the one given."""
    inherited = {name: value for name, value in os.environ.items() if name != ONEDNN_VARIABLE}
    show = f"import os, sys; assert 'tensorflow' not in sys.modules; print(os.environ.get({ONEDNN_VARIABLE!r}))"
    done = run(f"{code}; {show}", environment=inherited | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_packages_that_import_tensorflow_are_found() -> None:
    assert {"training", "services.model_server"} <= set(packages_with_tensorflow())


@pytest.mark.slow
@pytest.mark.parametrize("package", packages_with_tensorflow())
def test_a_package_that_imports_tensorflow_enables_onednn_first(package: str) -> None:
    assert onednn_after(f"import {package}") == "1"


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["training.export", "training.command", "reproduction.command", "services.model_server.__main__"]
)
def test_a_program_that_runs_tensorflow_enables_onednn_before_it_loads_it(module: str) -> None:
    assert onednn_after(f"import {module}") == "1"


@pytest.mark.slow
def test_a_quiet_import_enables_onednn() -> None:
    assert onednn_after("from shared.tensorflow_runtime import import_quietly; import_quietly('json')") == "1"


@pytest.mark.slow
@pytest.mark.parametrize("value", ["0", "1"])
def test_the_users_own_choice_of_onednn_wins(value: str) -> None:
    assert onednn_after("import training, services.model_server", **{ONEDNN_VARIABLE: value}) == value


def test_tests_run_with_onednn() -> None:
    assert ONEDNN_VARIABLE in os.environ


def test_the_serving_container_runs_with_onednn() -> None:
    assert container_files.services()["serving"]["environment"][ONEDNN_VARIABLE] == "1"


@pytest.mark.slow
def test_a_quiet_import_holds_back_noise_but_not_what_a_failure_said(tmp_path: Path) -> None:
    (tmp_path / "noisy_module.py").write_text("import os; os.write(2, b'noise\\n'); value = 5")
    (tmp_path / "failing_module.py").write_text("import os; os.write(2, b'reason\\n'); raise ValueError('no')")
    code = "from shared.tensorflow_runtime import import_quietly; import sys; print(import_quietly(sys.argv[1]).value)"
    done = [
        run(code, module, environment={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
        for module in ("noisy_module", "failing_module")
    ]
    assert (done[0].returncode, done[0].stdout, done[0].stderr) == (0, "5\n", "")
    assert done[1].returncode == 1
    assert done[1].stderr.startswith("reason\n")
    assert "ValueError: no" in done[1].stderr


@pytest.mark.slow
def test_the_model_server_starts_without_keras_which_can_be_imported_later() -> None:
    code = (
        "import sys; from shared.tensorflow_runtime import import_without_keras as load;"
        "load('services.model_server.server'); loaded = {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules);"
        "import keras; print(*loaded, keras.__name__)"
    )
    done = run(code, environment=dict(os.environ))
    assert (done.returncode, done.stdout.split()) == (0, ["tensorflow", "keras"]), done.stderr


def test_a_quiet_import_returns_the_module_itself() -> None:
    assert import_quietly("json") is sys.modules["json"]
