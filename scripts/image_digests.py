"""Pins the images of the container files to bytes: ``python scripts/image_digests.py [--check]``.

Asks the registry of each image for the digest of its tag, and writes it behind the tag: ``IMAGE:TAG@sha256:…``. A tag
can be moved to other bytes; a digest cannot. With ``--check`` it writes nothing, and names what is not pinned, or was
moved since. Needs nothing but Python, and the internet.
"""

import argparse
import hashlib
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
DOCKER_HUB = "registry-1.docker.io"
BUILT_HERE = ":local"
"""The tag of images that come from no registry."""

_IMAGE = re.compile(
    r"(?m)^(?P<before> *image: |ARG PYTHON_IMAGE=)(?P<image>[^\s:@]+(?::\d+/[^\s:@]+)?:[\w.-]+)"
    r"(?P<digest>@sha256:[0-9a-f]{64})?$"
)
_KINDS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_LARGEST = 4 * 2**20  # bytes of a manifest, as the specification bounds it
_TIMEOUT_S = 60.0


class NoDigest(Exception):
    """A registry gives no digest for a tag; the message says why."""


@dataclass(frozen=True)
class Image:
    """An image as a container file names it."""

    registry: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the parts of ``[registry/]repository:tag``; without a registry, it is Docker Hub's."""
        name, _, tag = text.rpartition(":")
        first, slash, rest = name.partition("/")
        if slash and (first == "localhost" or set(".:") & set(first)):
            return cls(first, rest, tag)
        return cls(DOCKER_HUB, name if slash else f"library/{name}", tag)


def container_files(root: Path) -> list[Path]:
    """Return the files that name images."""
    return [root / "Dockerfile", root / "docker-compose.yml", *sorted((root / "deploy").glob("*.yml"))]


def digest_of(image: Image, *, scheme: str = "https") -> str:
    """Return the digest of the manifest that a tag means, of all platforms together; it fits the bytes.

    Raises:
        NoDigest: The registry cannot be reached, does not know the tag, or says a digest that its bytes do not have.
    """
    url = f"{scheme}://{image.registry}/v2/{image.repository}/manifests/{image.tag}"
    try:
        try:
            said, content = _get(url, {"Accept": _KINDS})
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            token = _token(error.headers.get("WWW-Authenticate", ""), image)
            said, content = _get(url, {"Accept": _KINDS, "Authorization": f"Bearer {token}"})
    except (OSError, ValueError) as error:  # ValueError: an answer that is no JSON
        raise NoDigest(f"{image.registry} gives no manifest of {image.repository}:{image.tag}: {error}") from error
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if said not in ("", found):
        raise NoDigest(
            f"{image.registry} says that {image.repository}:{image.tag} is {said}, but its bytes are {found}"
        )
    return found


def _get(url: str, headers: dict[str, str]) -> tuple[str, bytes]:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 -- the scheme is ours
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
        content = answer.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError("the answer is larger than a manifest may be")
        return answer.headers.get("Docker-Content-Digest", ""), content


def _token(challenge: str, image: Image) -> str:
    """Return a token for reading, from where the registry's refusal says."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not challenge.lower().startswith("bearer ") or not asked.get("realm", "").startswith(("https://", "http://")):
        raise ValueError(f"it asks for credentials in an unknown way: {challenge!r}")
    query = {"scope": f"repository:{image.repository}:pull"}
    if "service" in asked:
        query["service"] = asked["service"]
    answer = json.loads(_get(f"{asked['realm']}?{urlencode(query)}", {})[1])
    return str(answer.get("token") or answer.get("access_token") or "")


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Pin all images, or check that they are; returns the exit status."""
    parser = argparse.ArgumentParser(prog="image_digests.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if an image is not pinned, or was moved")
    parser.add_argument("--scheme", choices=("https", "http"), default="https", help="http: for a registry of your own")
    options = parser.parse_args(arguments)
    texts = {file: file.read_text("utf-8") for file in container_files(root)}
    names = sorted({found["image"] for text in texts.values() for found in _IMAGE.finditer(text)})
    try:
        digests = {
            name: digest_of(Image.parse(name), scheme=options.scheme) for name in names if not name.endswith(BUILT_HERE)
        }
    except NoDigest as error:
        sys.stderr.write(f"{error}\n")
        return 1
    is_wrong = False
    for file, text in texts.items():
        for found in _IMAGE.finditer(text):
            if _pinned(found, digests) != found[0]:
                is_wrong = True
                sys.stdout.write(f"{file.relative_to(root)}: {_pinned(found, digests).strip()}\n")
        if not options.check:
            file.write_text(_IMAGE.sub(lambda found: _pinned(found, digests), text), "utf-8")
    return 1 if options.check and is_wrong else 0


def _pinned(found: re.Match[str], digests: dict[str, str]) -> str:
    digest = f"@{digests[found['image']]}" if found["image"] in digests else found["digest"] or ""
    return f"{found['before']}{found['image']}{digest}"


if __name__ == "__main__":
    sys.exit(main())
