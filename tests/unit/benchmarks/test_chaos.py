"""Chaos tells a wrong answer and a lost image from what it may not know."""

import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.chaos.client import Client, Lost
from benchmarks.chaos.journal import Journal
from benchmarks.chaos.model import ABSENT, Model, Standing
from benchmarks.chaos.pictures import Picture
from benchmarks.chaos.times import Absences

PRESENT, TRASHED = Standing("present", "oil"), Standing("trash", "oil")


class Answers(BaseHTTPRequestHandler):
    """Answers ``/api/v1/<status>`` with that status; ``/api/v1/<status>/later`` tells to come again."""

    def do_GET(self) -> None:
        status, _, later = self.path.removeprefix("/api/v1/").partition("/")
        self.send_response(int(status))
        if later:
            self.send_header("Retry-After", "5")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "is_violation"), [("/503/later", False), ("/503", True), ("/500", True), ("/404", True)]
)
def test_an_answer_other_than_come_again_is_a_violation(url: str, path: str, *, is_violation: bool) -> None:
    journal = Journal()
    with pytest.raises(Lost):
        Client(url, journal, Absences()).send("GET", path)
    assert bool(journal.violations) == is_violation


def test_an_answer_that_is_allowed_is_returned(url: str) -> None:
    journal = Journal()
    assert Client(url, journal, Absences()).send("GET", "/404", allowed=[404]).status == 404
    assert not journal.violations


@pytest.mark.parametrize("was_disturbed", [False, True])
def test_no_answer_is_a_violation_unless_the_web_service_was_disturbed(*, was_disturbed: bool) -> None:
    journal, absences = Journal(), Absences()
    if was_disturbed:
        absences.begin("web")
        absences.end("web")
    with pytest.raises(Lost):
        Client("http://127.0.0.1:9", journal, absences).send("GET", "/")
    assert bool(journal.violations) != was_disturbed


def test_an_image_whose_operation_was_not_answered_is_in_doubt_and_left_alone() -> None:
    model, choice = Model(seed=0), random.Random(0)
    (entry,) = model.new("north", 1)
    model.settle(entry, PRESENT)
    assert model.take(choice, "north", "present", 1) == [entry]
    model.lose(entry, TRASHED)
    assert entry.possible == {PRESENT, TRASHED}
    assert model.take(choice, "north", "present", 1) == model.take(choice, "north", "trash", 1) == []


def test_an_operation_has_an_image_for_itself() -> None:
    model, choice = Model(seed=0), random.Random(0)
    (entry,) = model.new("north", 1)
    assert model.of_pictures("north", [entry.picture]) == []
    model.settle(entry, PRESENT)
    assert model.known(choice, "north", "present") is entry
    assert model.of_pictures("north", [entry.picture]) == [entry]
    assert model.known(choice, "north", "present") is None


def test_what_a_server_has_lost_is_in_doubt_again() -> None:
    model = Model(seed=0)
    before, after = model.new("north", 2)
    model.settle(before, PRESENT)
    model.settle(after, TRASHED)
    assert model.doubt_since(after.since) == 1
    assert before.possible == frozenset({PRESENT})
    assert after.possible == frozenset({ABSENT, TRASHED})


def test_pictures_follow_from_the_seed_and_differ() -> None:
    assert Picture(1, 2).content == Picture(1, 2).content
    assert len({Picture(seed, number).digest for seed in range(2) for number in range(4)}) == 8
