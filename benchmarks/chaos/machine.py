"""What this machine allows: namespaces of our own, in which a disk can be full and a network cut."""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

_MARK = "CHAOS_NAMESPACES"
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_KINDS = (("network", "-rmn"), ("disk", "-rm"))
DISK_BYTES = 2**30


def enter_namespaces(arguments: list[str]) -> None:
    """Become the same program in user, mount and network namespaces of its own, as far as the machine has them.

    Does nothing if the program is in them already, or there are none.
    """
    if _MARK in os.environ or shutil.which("unshare") is None:
        return
    for kind, flags in _KINDS:
        if subprocess.run(["unshare", flags, "true"], check=False, capture_output=True).returncode == 0:  # noqa: S607
            os.environ[_MARK] = kind
            os.execvp("unshare", ["unshare", flags, sys.executable, *arguments])  # noqa: S606, S607


def has_own_network() -> bool:
    """Return whether this process is in a network namespace of its own."""
    return os.environ.get(_MARK) == "network"


def set_network(*, up: bool) -> None:
    """Switch the loopback interface of our own network on or off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack("16xH14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        flags = flags | _IFF_UP if up else flags & ~_IFF_UP
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))


def mount_small_disk(folder: Path) -> bool:
    """Mount a small disk in memory on a folder, in a mount namespace of our own; returns whether that is possible."""
    if _MARK not in os.environ:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "chaos", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def unmount(folder: Path) -> None:
    """Take a disk away again that `mount_small_disk` mounted; does nothing if there is none."""
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)  # noqa: S607
