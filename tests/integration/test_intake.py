"""Files that are handed in together: each is stored, refused or known by itself, and all are counted."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from shared.errors import Unavailable
from shared.messaging.intake import Intake, IntakeOptions
from shared.messaging.original_intake import HELD_BYTES, TOGETHER, OriginalIntake
from shared.state import Rejection
from shared.storage import layout
from tests.support import rows
from tests.support.indexing import Parts, parts_of
from tests.support.servers import Servers


@pytest.fixture
def parts(servers: Servers) -> Parts:
    return parts_of(servers.settings)


Content = bytes | Path | Rejection


def hand_in(parts: Parts, contents: Sequence[Content | Callable[[], Content]], **options: float) -> Intake:
    """Hand in files with these contents, by the names 0, 1, ….; returns the intake once all are sent."""

    def reading(content: Content | Callable[[], Content]) -> Callable[[], Content]:
        return content if callable(content) else lambda: content

    with Intake("art", parts.clients(), IntakeOptions(batch_size=100, threads=2, **options)) as intake:  # type: ignore[arg-type]
        for number, content in enumerate(contents):
            intake.add(str(number), None, reading(content))
    return intake


def sent(parts: Parts, intake: Intake) -> list[str]:
    """Return the names of the images that were sent to the embedder, in order."""
    message = parts.jobs.sent.get(intake.job, 0)
    assert message is not None
    return [item["name"] for item in message.arguments["items"]]


def test_files_that_are_handed_in_together_keep_their_order_and_are_told_apart(parts: Parts, tmp_path: Path) -> None:
    art = parts.collection()
    parts.add(art, "a", [1, 2])
    gone = tmp_path / "gone.jpg"
    contents: list[bytes | Path | Rejection] = [b"new %d" % number for number in range(3 * TOGETHER)]
    contents[2] = str(1).encode()  # the collection has it
    contents[3] = Rejection("3", "unreadable", "it is held back")
    contents[4] = contents[1]  # handed in twice, side by side
    contents[5] = gone
    contents[-1] = contents[0]  # handed in twice, apart
    intake = hand_in(parts, contents)
    left = [str(number) for number in range(len(contents) - 1) if number not in {2, 3, 4, 5}]
    assert sent(parts, intake) == left
    assert [image.name for image in intake.found] == ["2", "4", str(len(contents) - 1)]
    outcome = parts.jobs.outcome(intake.job)
    assert (outcome.duplicates, [rejected.name for rejected in outcome.rejected]) == (3, ["3", "5"])
    stored = {item.key for item in parts.store.list("images/")}
    digests = {layout.digest_of(content) for content in contents if isinstance(content, bytes)}
    assert stored == {layout.original_key(digest) for digest in digests | {rows.digest(1), rows.digest(2)}}
    pinned = parts.state.pins.pinned(sorted(digests))
    assert pinned == digests - {rows.digest(1)}  # the collection holds that one


def test_large_files_do_not_wait_in_memory_for_others(parts: Parts) -> None:
    parts.collection()
    large = [b"%d" % number + bytes(HELD_BYTES) for number in range(3)]
    intake = hand_in(parts, [b"small", *large, b"smaller"])
    assert sent(parts, intake) == ["0", "1", "2", "3", "4"]
    assert all(parts.store.exists(layout.original_key(layout.digest_of(data))) for data in large)


def test_a_file_that_is_being_deleted_keeps_those_handed_in_with_it_waiting_and_none_pinned(parts: Parts) -> None:
    parts.collection()
    contents: list[bytes | Path | Rejection] = [b"one", b"two"]
    digests = [layout.digest_of(b"one"), layout.digest_of(b"two")]
    parts.state.pins.mark(digests[:1], "a deletion", seconds=60.0)
    with pytest.raises(Unavailable, match="being deleted at this moment"):
        hand_in(parts, contents, patience_s=0.0)
    assert parts.state.pins.pinned(digests) == set()
    parts.state.pins.unmark(digests[:1], "a deletion")
    assert sent(parts, hand_in(parts, contents)) == ["0", "1"]


WHOLE = bytes(range(256)) * (6 * 2**12)  # sent in parts
CHANGED = WHOLE[:-1] + b"!"


@pytest.mark.parametrize("by_then", [CHANGED, WHOLE[: 5 * 2**20], b"", WHOLE + b"!"])
@pytest.mark.parametrize("when", ["before", "meanwhile", "never"])
def test_a_large_file_that_changes_before_it_is_stored_is_refused_and_the_original_of_others_stays(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_then: bytes, when: str
) -> None:
    """Another collection holds the content, or another intake stores it at the same time, or nobody."""
    parts.collection()
    path, digest = tmp_path / "large.tif", layout.digest_of(WHOLE)
    path.write_bytes(WHOLE)
    if when == "before":
        parts.store.put(layout.original_key(digest), WHOLE)
    pin = OriginalIntake._pin

    def change(intake: OriginalIntake, digests: list[str]) -> None:
        pin(intake, digests)
        path.write_bytes(by_then)
        if when == "meanwhile":
            parts.store.put(layout.original_key(digest), WHOLE)

    monkeypatch.setattr(OriginalIntake, "_pin", change)
    intake = hand_in(parts, [path], patience_s=0.0)
    outcome = parts.jobs.outcome(intake.job)
    if by_then.startswith(WHOLE):  # what was written behind it belongs to another picture
        assert (outcome.images, sent(parts, intake)) == (0, ["0"])
    else:
        (rejected,) = outcome.rejected
        assert (rejected.code, "changed while it was read" in rejected.reason) == ("unreadable", True)
        assert parts.state.pins.pinned([digest]) == set()
    stored = {item.key for item in parts.store.list("images/")}
    assert stored == ({layout.original_key(digest)} if when != "never" or by_then.startswith(WHOLE) else set())
    if stored:
        assert parts.store.get(layout.original_key(digest)) == WHOLE


def test_a_file_is_taken_though_the_same_content_was_refused_before(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.collection()
    changing, whole = tmp_path / "changing.tif", tmp_path / "whole.tif"
    for path in (changing, whole):
        path.write_bytes(WHOLE)
    pin = OriginalIntake._pin

    def change(intake: OriginalIntake, digests: list[str]) -> None:
        pin(intake, digests)
        changing.write_bytes(CHANGED)

    monkeypatch.setattr(OriginalIntake, "_pin", change)
    intake = hand_in(parts, [changing, whole])
    assert sent(parts, intake) == ["1"]
    assert [rejected.name for rejected in parts.jobs.outcome(intake.job).rejected] == ["0"]
    digest = layout.digest_of(WHOLE)
    assert parts.state.pins.pinned([digest]) == {digest}
    assert parts.store.get(layout.original_key(digest)) == WHOLE


def test_a_file_waits_for_one_with_its_content_that_another_thread_stores(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.collection()
    changing, digest = tmp_path / "changing.tif", layout.digest_of(WHOLE)
    began, seen = threading.Event(), threading.Event()
    changing.write_bytes(WHOLE)
    pin, see = OriginalIntake._pin, OriginalIntake._see

    def change(intake: OriginalIntake, digests: list[str]) -> None:
        pin(intake, digests)
        if digest in digests and changing.read_bytes() == WHOLE:
            began.set()
            assert seen.wait(60)
            changing.write_bytes(CHANGED)

    def note(intake: OriginalIntake, wanted: str) -> Future[bool] | None:
        before = see(intake, wanted)
        if before is not None:
            seen.set()
        return before

    def whole() -> bytes:
        assert began.wait(60)  # else the other thread may be the one that waits
        return WHOLE

    monkeypatch.setattr(OriginalIntake, "_pin", change)
    monkeypatch.setattr(OriginalIntake, "_see", note)
    others = [b"%d" % number for number in range(TOGETHER - 1)]
    intake = hand_in(parts, [changing, *others, whole])
    assert sent(parts, intake) == [str(number) for number in range(1, TOGETHER + 1)]
    assert [rejected.name for rejected in parts.jobs.outcome(intake.job).rejected] == ["0"]
    assert parts.store.get(layout.original_key(digest)) == WHOLE
    assert parts.state.pins.pinned([digest]) == {digest}
