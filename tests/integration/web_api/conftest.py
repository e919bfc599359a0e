"""A client of the running system, and a collection of six images."""

import hashlib

import pytest

from shared.storage.layout import image_id
from tests.support.stack import Stack
from tests.support.web_client import Client, picture


@pytest.fixture(scope="session")
def client(stack: Stack) -> Client:
    return Client(stack.url)


@pytest.fixture(scope="session")
def known(client: Client) -> dict[int, tuple[str, bytes]]:
    """The images of the collection ``web-api``, by id."""
    files = [(f"work {number}.jpg", picture(number)) for number in range(6)]
    job = client.upload("web-api", files, label="shapes")
    assert (job["added"], job["classes"]) == (6, {"shapes": 6})
    client.wait_for_index("web-api")
    return {image_id(hashlib.sha256(data).hexdigest()): (name, data) for name, data in files}


@pytest.fixture
def known_id(known: dict[int, tuple[str, bytes]]) -> int:
    return next(iter(known))
