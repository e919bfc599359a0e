"""Addresses in settings: what is taken, in which form it is kept, and what is refused with a reason."""

import ipaddress

import pytest

from shared.addresses import PublicUrl, host_names, host_of, is_loopback, networks, origins


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://archive.example", ("https", "archive.example", "archive.example", "")),
        ("https://archive.example/", ("https", "archive.example", "archive.example", "")),
        ("http://Archive.Example:8080/a/b/", ("http", "archive.example:8080", "archive.example", "/a/b")),
        ("https://archive.example:443/artseek", ("https", "archive.example", "archive.example", "/artseek")),
        ("http://[::1]:80/x", ("http", "[::1]", "::1", "/x")),
        ("http://10.0.0.7", ("http", "10.0.0.7", "10.0.0.7", "")),
    ],
)
def test_a_public_address_has_scheme_host_and_prefix(text: str, parts: tuple[str, str, str, str]) -> None:
    url = PublicUrl.parse(text)
    assert (url.scheme, url.netloc, url.host, url.prefix) == parts
    assert PublicUrl.parse(str(url)) == url


@pytest.mark.parametrize(
    "text",
    [
        "archive.example",
        "ftp://archive.example",
        "https://",
        "https:///artseek",
        "https://*.example.org",
        "https://me:secret@archive.example",
        "https://archive.example/?x=1",
        "https://archive.example/#x",
        "https://archive.example/?",
        "https://archive.example:many",
        "https://archive.example/a//b",
        "https://archive.example/a/../b",
        "https://archive.example/a b",
        'https://archive.example/"><script>',
        "https://archive.example/%2e",
        "https://[::1",
    ],
)
def test_what_is_no_public_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|path"):
        PublicUrl.parse(text)


def test_host_names_are_told_apart_by_commas() -> None:
    assert host_names(" Web, *.Example.org,,archive.example. ,[::1]") == (
        "web",
        "*.example.org",
        "archive.example",
        "::1",
    )
    assert host_names("") == ()


@pytest.mark.parametrize("text", ["web:8080", "https://archive.example", "a b", "*", "exa*mple.org", "-x"])
def test_what_is_no_host_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no host name"):
        host_names(text)


def test_proxies_are_addresses_or_networks() -> None:
    assert networks("127.0.0.1, 10.0.0.0/8,fd00::/8") == (
        ipaddress.ip_network("127.0.0.1/32"),
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("fd00::/8"),
    )
    for text in ("proxy", "10.0.0.1/8", "*"):
        with pytest.raises(ValueError, match="neither an IP address nor a network"):
            networks(text)


@pytest.mark.parametrize(
    ("address", "host", "loopback"),
    [
        ("127.0.0.1:8080", "127.0.0.1", True),
        ("[::1]:8080", "::1", True),
        ("LocalHost:1", "localhost", True),
        ("art.localhost", "art.localhost", True),
        ("192.0.2.7:8080", "192.0.2.7", False),
        ("archive.example.:80", "archive.example", False),
        ("localhost.example", "localhost.example", False),
        ("[", "", False),
    ],
)
def test_the_host_of_an_address_tells_whether_it_is_this_machine(address: str, host: str, loopback: bool) -> None:  # noqa: FBT001
    assert host_of(address) == host
    assert is_loopback(host) == loopback


def test_origins() -> None:
    assert origins(" https://Museum.example , http://10.0.0.1:8080,") == (
        "https://museum.example",
        "http://10.0.0.1:8080",
    )
    assert origins("https://museum.example:443/") == ("https://museum.example",)
    for bad in ("museum.example", "https://museum.example/art", "*", "null", "ftp://museum.example"):
        with pytest.raises(ValueError, match=r"museum|\*|null"):
            origins(bad)
