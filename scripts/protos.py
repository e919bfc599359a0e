"""Regenerates the Python code of every .proto file under `shared/`: messages, their types, and stubs of services.

Run `python -m scripts.protos` after a change, and commit what it writes.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def generate(root: Path, out: Path) -> list[Path]:
    """Write the code of every `shared/**/*.proto` under `root` to the same places under `out`.

    Returns:
        The files written, relative to `out`.

    Raises:
        RuntimeError: protoc refused a file; the message says why.
    """
    plugins = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).with_name(f'protoc-gen-{name}')}"
        for name in ("mypy", "mypy_grpc")
    ]
    written: list[Path] = []
    for proto in sorted(root.glob("shared/**/*.proto")):
        name = proto.relative_to(root)
        options = [f"--python_out={out}", f"--mypy_out={out}"]
        suffixes = ["_pb2.py", "_pb2.pyi"]
        if re.search(r"^service\s", proto.read_text("utf-8"), re.MULTILINE):
            options += [f"--grpc_python_out={out}", f"--mypy_grpc_out={out}"]
            suffixes += ["_pb2_grpc.py", "_pb2_grpc.pyi"]
        command = [sys.executable, "-m", "grpc_tools.protoc", *plugins, f"--proto_path={root}", *options, str(name)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"protoc cannot compile {name}: {done.stderr.strip()}")
        written += [name.with_name(name.stem + suffix) for suffix in suffixes]
    return written


def main() -> int:
    """Regenerate in place."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for path in generate(ROOT, ROOT):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
