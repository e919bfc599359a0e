"""Renews requirements/*.txt from pyproject.toml: pinned, hashed, platform-independent. Needs uv on the PATH.

The development set is resolved first and constrains every other one, so that all services run the same versions.
"""

import argparse
import subprocess
import tomllib
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_FOLDER = _ROOT / "requirements"
EXTRAS = (
    *(
        "stack",
        "embedder",
        "indexer",
        "maintenance",
        "evaluator",
        "query",
        "web",
        "producer",
        "model-server",
        "training",
    ),
    *("bench", "bench-source"),
)


def main() -> None:
    """Resolve every extra."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uv", default="uv", help="the uv command")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    options = parser.parse_args()
    _FOLDER.mkdir(exist_ok=True)
    upgrade = ["--upgrade"] if options.upgrade else []
    project = _ROOT / "pyproject.toml"
    _compile(options.uv, "dev", [*upgrade, "--extra", "dev", str(project)])
    constrained = [*upgrade, "--constraints", str(_FOLDER / "dev.txt")]
    for extra in EXTRAS:
        _compile(options.uv, extra, [*constrained, "--extra", extra, str(project)])
    # What makes a package of the sources: images are built without a download that is not pinned.
    requires = tomllib.loads(project.read_text("utf-8"))["build-system"]["requires"]
    _compile(options.uv, "build", [*constrained, "-"], "\n".join(requires))


def _compile(uv: str, name: str, more: list[str], text: str | None = None) -> None:
    command = [uv, "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes", "--quiet"]
    command += ["--no-header", "--no-emit-index-url", "--no-annotate"]
    command += ["--output-file", str(_FOLDER / f"{name}.txt"), *more]
    subprocess.run(command, cwd=_ROOT, check=True, input=text, text=True)


if __name__ == "__main__":
    main()
