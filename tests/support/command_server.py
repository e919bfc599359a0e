"""Runs `artseek` commands, each in a process forked from this one, which has imported most of what they need.

It is told by requests at a Unix socket, whose path is its argument, and ends with its standard input. gRPC is left to
each command: what it starts at its import does not survive a fork.
"""

import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any

from tests.support.paths import ROOT

WITHOUT_GRPC = (
    *("celery.app", "click", "google.protobuf.descriptor_pb2", "kombu.transport.redis", "minio", "numpy"),
    *("pyarrow.parquet", "pydantic_settings", "redis", "rich.progress"),
    *("cli.printing.evaluation", "services.producer.sidecars", "shared.access.accounts", "shared.backup.snapshot"),
    *("shared.evaluation.query_sets", "shared.index.generations", "shared.messaging.celery_app"),
    *("shared.records.embedded", "shared.records.tables", "shared.storage.trash", "shared.system_identity"),
)


def serve(path: str) -> None:
    """Serve requests at a path until standard input ends."""
    for name in WITHOUT_GRPC:
        importlib.import_module(name)
    assert "grpc" not in sys.modules, "one of the modules that are loaded before the fork imports gRPC"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _answer(connection)
                os._exit(0)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Run the command that is asked for, and send its exit status; -N if signal N killed it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection, connection.makefile("rw", encoding="utf-8") as stream:
        line = stream.readline()
        if not line.strip():  # somebody looks whether anybody listens
            return
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_run(**request))
        _, status = os.waitpid(child, 0)
        stream.write(f"{os.waitstatus_to_exitcode(status)}\n")


def _run(arguments: list[str], environment: dict[str, str], outputs: list[str]) -> int:
    """Become the command, as a process of its own would be it; returns its exit status."""
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    none = os.open(os.devnull, os.O_RDONLY)
    files = (none, *(os.open(output, os.O_WRONLY | os.O_CREAT) for output in outputs))
    for file, standard in zip(files, (0, 1, 2), strict=True):
        os.dup2(file, standard)
        os.close(file)
    sys.argv = ["artseek", *arguments]
    try:
        from cli.main import main  # noqa: PLC0415 -- in the process that is to be the command

        main(arguments, prog_name="artseek")
    except SystemExit as end:
        code: Any = end.code
        status = code if isinstance(code, int) else int(code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    else:
        status = 0
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    serve(sys.argv[1])
