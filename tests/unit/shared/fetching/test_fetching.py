"""Fetching by address: what is asked, what never is, and what a server may send. The server is a real one."""

import io
import threading
from collections.abc import Iterator, Sequence

import pytest

from shared.errors import Unavailable
from shared.fetching import fetcher
from shared.fetching.admitted import places
from shared.fetching.fetcher import Fetcher, FetchLimits, FetchRefused
from shared.fetching.places import Place, is_public
from tests.support.picture_server import MOST, PICTURE, Server

SOON = FetchLimits(MOST, seconds=0.4)
LIMITS = FetchLimits(MOST, seconds=60.0)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.stopping.set()
        made.shutdown()
        thread.join()


def _fetch(made: Fetcher, url: str) -> bytes:
    file = io.BytesIO()
    assert made.fetch(url, file) == len(file.getvalue())
    return file.getvalue()


def _refusal(made: Fetcher, url: str) -> FetchRefused:
    with pytest.raises(FetchRefused) as caught:
        _fetch(made, url)
    return caught.value


def _allowing(server: Server, limits: FetchLimits = LIMITS) -> Fetcher:
    """Return what may fetch from the server by the name that an administrator has admitted, and by no other."""
    return Fetcher(limits, allowed=[f"127.0.0.1:{server.port}"], ports=[server.port, 80])


# Ways to write an address of this machine, its network or a cloud's metadata.
INSIDE = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",  # noqa: S104
    "127.0.0.1.",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "%31%32%37.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "198.18.0.1",
    "192.0.2.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.88.99.1",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[2600:1900::5efe:7f00:1]",
    "[2001:20::1]",
    "[3fff::1]",
    "[5f00::1]",
    "localhost",
    "LOCALHOST",
    "localhost.",
]


@pytest.mark.parametrize("host", INSIDE)
def test_nothing_inside_is_asked(host: str, server: Server) -> None:
    server.asked.clear()
    made = Fetcher(LIMITS, ports=[server.port])
    refused = _refusal(made, f"http://{host}:{server.port}/picture.png")
    assert server.asked == []
    if refused.code == "not-fetched":  # the one text for all of them, so that it says nothing of what is inside
        assert "nothing answers there, or it is no public address" in str(refused)


def test_the_guard_is_what_keeps_from_asking(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "is_public", lambda _: True)
    made = Fetcher(LIMITS, ports=[server.port])
    assert _fetch(made, f"http://127.0.0.1:{server.port}/") == PICTURE
    assert _fetch(made, f"http://localhost:{server.port}/") == PICTURE


@pytest.mark.parametrize(
    "url",
    [
        "ftp://{host}/a.png",
        "file:///etc/passwd",
        "gopher://{host}/",
        "data:image/png;base64,AAAA",
        "//{host}/a.png",
        "{host}/a.png",
        "http:///a.png",
        "http://user@{host}/",
        "http://user:secret@{host}/",
        "http://public.example@{host}/",
        "http://{host}@public.example/",
        "http://public.example\\@{host}/",
        "http://{host}\\.public.example/",
        "http://{host}/a b",
        "http://{host}/a\r\nX: y",
        "http://{host}:99999/",
        "http://public.example:22/",
        "http://public.example:6379/",
        "http://public.example:0/",
        "http://[::1/",
        "http://" + "a" * 5000,
    ],
)
def test_addresses_that_are_not_taken(url: str, server: Server) -> None:
    server.asked.clear()
    refused = _refusal(_allowing(server), url.format(host=f"127.0.0.1:{server.port}"))
    assert (refused.code, server.asked) == ("address", [])
    assert "secret" not in str(refused)


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        (["127.0.0.1"], False),
        (["93.184.216.34", "127.0.0.1"], False),
        (["127.0.0.1", "93.184.216.34"], False),
        (["93.184.216.34", "::1"], False),
        (["93.184.216.34", "169.254.169.254"], False),
        (["fe80::1%lo"], False),
        (["::ffff:10.0.0.1"], False),
        ([], False),
    ],
)
def test_all_addresses_of_a_name_have_to_be_public(found: list[str], asked: bool, server: Server) -> None:  # noqa: FBT001
    server.asked.clear()
    made = Fetcher(SOON, ports=[server.port], resolve=lambda *_: found)
    _refusal(made, f"http://public.example:{server.port}/")
    assert bool(server.asked) is asked


def test_a_name_is_looked_up_once_and_its_checked_address_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]  # the second is what a rebinding name would answer
    lookups: list[str] = []

    def resolve(host: str, _port: int) -> Sequence[str]:
        lookups.append(host)
        return answers[len(lookups) - 1]

    monkeypatch.setattr(fetcher, "is_public", lambda text: text == "127.0.0.1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.asked.clear()
    made = Fetcher(LIMITS, ports=[server.port], resolve=resolve)
    assert _fetch(made, f"http://Public.Example:{server.port}/a%20b.png?x=%C3%A4#part") == PICTURE
    assert lookups == ["public.example"]
    (asked,) = server.asked
    assert asked[0] == "/a%20b.png?x=%C3%A4"
    assert asked[1]["host"] == f"public.example:{server.port}"
    assert asked[1].keys() == {"host", "user-agent", "accept", "accept-encoding"}
    # The same name again, for a redirect: what it answers now is looked at again, and not asked.
    lookups.clear()
    refused = _refusal(made, f"http://public.example:{server.port}/to?http://public.example:PORT/again")
    assert "no public address" in str(refused)
    assert lookups == ["public.example"] * 2


@pytest.mark.parametrize(
    ("target", "message"),
    [
        *((f"http://{host}:PORT/x", "") for host in ("localhost", "127.1", "[::1]", "10.0.0.1", "0x7f000001")),
        ("http://169.254.169.254/latest/meta-data/", "no public address"),
        ("http://user:secret@127.0.0.1:PORT/x", "user or password"),
        ("file:///etc/passwd", "not fetched"),
        ("gopher://127.0.0.1:PORT/x", "not fetched"),
        ("//localhost:PORT/x", "no public address"),
        ("http://127.0.0.1:22/x", "port 22"),
        ("/to?/to?/to?/to?/x", "more than 3 redirects"),
        ("http://[::1/x", "no address"),
    ],
)
def test_each_redirect_is_looked_at(target: str, message: str, server: Server) -> None:
    server.asked.clear()
    refused = _refusal(_allowing(server), f"http://127.0.0.1:{server.port}/to?{target}")
    assert message in str(refused)
    assert "secret" not in str(refused)
    assert not any(path == "/x" for path, _ in server.asked)


def test_a_few_redirects_are_followed_without_cookies(server: Server) -> None:
    server.asked.clear()
    url = f"http://127.0.0.1:{server.port}/to?/to?http://127.0.0.1:PORT/picture"
    assert _fetch(_allowing(server), url) == PICTURE
    assert [path.partition("?")[0] for path, _ in server.asked] == ["/to", "/to", "/picture"]
    assert not any("cookie" in headers for _, headers in server.asked)


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("/html", "not-an-image", "a web page"),
        ("/svg", "format", "SVG"),
        ("/zip", "not-an-image", "ZIP"),
        ("/empty", "empty", "empty"),
        ("/missing", "not-fetched", "status 404"),
        ("/nowhere", "not-fetched", "status 302"),
        ("/too-long", "too-large", "300,000 bytes"),
        ("/endless", "too-large", "300,000 bytes"),
        ("/bomb", "too-large", "300,000 bytes"),
        ("/bomb-twice", "too-large", "300,000 bytes"),
        ("/broken-gzip", "not-fetched", "no whole answer"),
        ("/cut", "not-fetched", "no whole answer"),
        ("/not-http", "not-fetched", "no whole answer"),
    ],
)
def test_what_a_server_sends_is_bounded(path: str, code: str, message: str, server: Server) -> None:
    file = io.BytesIO()
    with pytest.raises(FetchRefused, match=message) as caught:
        _allowing(server).fetch(f"http://127.0.0.1:{server.port}{path}?token=secret", file)
    assert caught.value.code == code
    assert "secret" not in str(caught.value)
    assert len(file.getvalue()) <= MOST


@pytest.mark.parametrize("path", ["/slow-body", "/slow-head", "/silent"])
def test_what_comes_slowly_is_ended(path: str, server: Server) -> None:
    refused = _refusal(_allowing(server, SOON), f"http://127.0.0.1:{server.port}{path}")
    assert "takes longer than 0.4 s" in str(refused)


@pytest.mark.parametrize("path", ["/picture.jpg", "/picture-as-page", "/gzip"])
def test_a_picture_is_told_by_its_bytes(path: str, server: Server) -> None:
    assert _fetch(_allowing(server), f"http://127.0.0.1:{server.port}{path}") == PICTURE


def test_no_more_than_a_few_at_once_and_none_where_it_is_off(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    with pytest.raises(FetchRefused, match="ARTSEEK_FETCH=off"):
        _fetch(Fetcher(LIMITS, allowed=[f"127.0.0.1:{server.port}"], on=False), url)
    made = _allowing(server)
    for _ in range(fetcher._AT_ONCE):
        made._places.acquire()
    with pytest.raises(Unavailable):
        _fetch(made, url)


def test_a_name_that_is_not_answered_in_time_is_refused_as_any_other() -> None:
    over = threading.Event()
    made = Fetcher(SOON, resolve=lambda *_: [str(over.wait())])
    try:
        assert "nothing answers there" in str(_refusal(made, "http://public.example/"))
    finally:
        over.set()


def test_the_name_is_what_a_certificate_has_to_show(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "is_public", lambda _: True)
    made = Fetcher(LIMITS, ports=[server.port], resolve=lambda *_: ["127.0.0.1"])
    assert "no valid certificate" in str(_refusal(made, f"https://public.example:{server.port}/"))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001::200e"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


def test_hosts_that_are_admitted() -> None:
    assert places(" Pics.Example:8000, 10.0.0.1:80,[FD00::0001]:8080 ,") == [
        "pics.example:8000",
        "10.0.0.1:80",
        "[fd00::1]:8080",
    ]
    assert Place.parse("http://[fd00::1]:8080/").place == "[fd00::1]:8080"
    for wrong in ("pics.example", "http://pics.example:80", "a:0", "a:70000", "[x]:80", "a b:80"):
        with pytest.raises(ValueError, match="host:port"):
            places(wrong)
