"""Everybody may do everything on one's own machine, and elsewhere only where a setting says so."""

import pytest

from shared.access.openness import open_to_all
from shared.settings import Settings


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, True),
        ({"web_listen": "[::1]:8080"}, True),
        ({"web_listen": "0.0.0.0:8080"}, False),
        ({"web_listen": "0.0.0.0:8080", "insecure": True}, True),
        ({"public_url": "https://archive.example"}, False),
        ({"public_url": "https://archive.example", "insecure": True}, True),
        ({"trusted_proxies": "127.0.0.1"}, False),
        ({"allowed_hosts": "archive"}, True),
    ],
)
def test_no_log_in_is_needed_on_ones_own_machine_alone(values: dict[str, str | bool], expected: bool) -> None:  # noqa: FBT001
    assert open_to_all(Settings(**values)) == expected  # type: ignore[arg-type]
