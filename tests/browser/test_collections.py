"""The pages of the collections in a browser: uploads, deletion, classes and pages."""

import re
from typing import Any

from playwright.sync_api import Page, expect

from shared.messaging.celery_app import make_app
from shared.messaging.task_queue import EMBED
from tests.browser.actions import drop_files, drop_folder, jpeg, script_held
from tests.browser.conftest import Watch
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.stack import Stack
from tests.support.web_client import Client, picture


def test_an_upload_shows_its_progress_and_what_was_not_taken(page: Page) -> None:
    page.goto("/collections")
    page.get_by_label("Name").fill("web-upload")
    page.get_by_role("button", name="Open").click()
    expect(page.locator("h1")).to_have_text("web-upload")
    expect(page.locator("#overview")).to_contain_text("artseek ingest FOLDER --collection web-upload")
    page.get_by_label("Label of the images").fill("fresh")
    files = [jpeg(f"new {number}.jpg", picture(number)) for number in range(500, 506)]
    cut = jpeg("cut.jpg", picture(506)[:900])
    page.set_input_files("#files", [*files, jpeg("notes.jpg", b"shopping list"), cut, files[0]])
    expect(page.locator("#progress-text")).to_have_text("6 added, 1 already there, 2 not taken")
    expect(page.locator("#refusals li")).to_have_count(2)
    expect(page.locator("#refusals")).to_contain_text(re.compile(r"notes\.jpg this is a text file"))
    expect(page.locator("#refusals")).to_contain_text(re.compile(r"cut\.jpg .*cut short"))
    expect(page.locator("#gallery .work")).to_have_count(6)
    expect(page.locator("#overview .classes")).to_contain_text("fresh")
    assert page.locator("#bar").evaluate("(bar) => bar.value === bar.max")
    page.get_by_label("Label of the images").fill("")
    drop_files(page, ("seventh.jpg", picture(507)))
    expect(page.locator("#progress-text")).to_have_text("1 added")
    expect(page.locator("#gallery .work")).to_have_count(7)
    expect(page.locator("#gallery .work").first).to_contain_text("seventh.jpg")
    junk = [(name, b"no picture") for name in (".DS_Store", "a/Clip.MP4", "@eaDir/one.jpg/thumb.jpg", "b/.trash/x.jpg")]
    drop_folder(
        page, "scans", ("a/one.jpg", picture(508)), *junk, ("b/one.jpg", picture(509)), ("two.jpg", picture(510))
    )
    passed_over = "passed over: 1 .DS_Store, 1 @eaDir, 1 hidden, 1 video"  # as `artseek ingest` does
    expect(page.locator("#progress-text")).to_have_text(f"3 added, {passed_over}")
    for path in ("scans/a/one.jpg", "scans/b/one.jpg", "scans/two.jpg"):
        expect(page.locator("#gallery")).to_contain_text(path)


def test_files_that_were_chosen_before_the_script_came_are_added(page: Page) -> None:
    with script_held(page, "collection.js"):
        page.goto("/collections/web-early", wait_until="commit")
        page.set_input_files("#files", [jpeg("early.jpg", picture(595))])
    expect(page.locator("#progress-text")).to_have_text("1 added")


def test_an_upload_of_which_nothing_can_be_taken(page: Page, watch: Watch) -> None:
    page.goto("/collections/web-nothing")
    page.set_input_files("#files", [jpeg("a.jpg", b"text"), jpeg("b.jpg", b"")])
    expect(page.locator("#progress-text")).to_have_text("0 added, 2 not taken")
    expect(page.locator("#refusals li")).to_have_count(2)
    watch.expect_status(422)


def test_an_upload_that_somebody_cancels_ends(page: Page, stack: Stack, client: Client) -> None:
    control = make_app(stack.settings, name="tests").control

    def embedders() -> list[str]:
        queues = control.inspect(timeout=2).active_queues() or {}
        return [node for node, its in queues.items() if EMBED in {queue["name"] for queue in its}]

    nodes = eventually(embedders)
    said: dict[str, Any] = {"destination": nodes, "reply": True, "limit": len(nodes), "timeout": PATIENCE_S}
    assert control.cancel_consumer(EMBED, **said)  # so that the job still waits when it is cancelled
    try:
        page.goto("/collections/web-cancelled")
        page.set_input_files("#files", [jpeg(f"{number}.jpg", picture(number)) for number in (596, 597)])
        expect(page.locator("#progress-text")).to_have_text("Adding 0 of 2")
        (job,) = client.call("GET /jobs", query={"collection": "web-cancelled", "state": "running"}).json["jobs"]
        client.call("DELETE /jobs/{id}", id=job["id"])
    finally:
        assert control.add_consumer(EMBED, **said)
    expect(page.locator("#progress-text")).to_have_text("0 added, 2 not taken")
    expect(page.locator("#refusals li").first).to_contain_text("the job was cancelled before it was added")


def test_an_image_is_deleted_after_a_question(page: Page, client: Client) -> None:
    client.upload("web-delete", [(f"old {number}.jpg", picture(number)) for number in range(520, 523)])
    page.goto("/collections/web-delete")
    expect(page.locator("#gallery .work")).to_have_count(3)
    page.get_by_role("button", name="Delete old 521.jpg").click()
    dialog = page.locator("#confirm")
    expect(dialog).to_contain_text("old 521.jpg")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("#gallery .work")).to_have_count(3)
    page.get_by_role("button", name="Delete old 521.jpg").click()
    dialog.get_by_role("button", name="Delete it").click()
    expect(page.locator("#gallery .work")).to_have_count(2)
    expect(page.locator("#count")).to_have_text("2")
    page.reload()
    expect(page.get_by_text("old 521.jpg")).to_have_count(0)
    page.get_by_role("link", name="Trash").click()
    expect(page.locator("#trash .work")).to_have_count(1)
    page.get_by_role("button", name="Restore old 521.jpg").click()
    expect(page.locator(".empty")).to_have_text("The trash is empty.")
    page.get_by_role("link", name="web-delete").click()
    expect(page.locator("#count")).to_have_text("3")


def test_an_image_in_the_trash_is_removed_for_good_after_a_question(page: Page, client: Client) -> None:
    client.upload("web-purge", [(f"old {number}.jpg", picture(number)) for number in range(530, 533)])
    images = client.wait_for("web-purge", 3)
    job = client.call(
        "POST /collections/{name}/delete", name="web-purge", value={"ids": [image["id"] for image in images[:2]]}
    )
    client.finished(job.json["job"])
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/collections/web-purge/trash")
    expect(page.locator("#trash .work")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    name = images[0]["name"]
    page.get_by_role("button", name=f"Remove {name} for good").click()
    expect(page.locator("#confirm")).to_contain_text(name)
    page.keyboard.press("Escape")
    expect(page.locator("#trash .work")).to_have_count(2)
    page.get_by_role("button", name=f"Remove {name} for good").click()
    page.locator("#confirm").get_by_role("button", name="Remove").click()
    expect(page.locator("#trash .work")).to_have_count(1)
    page.get_by_role("button", name="Remove all on this page").click()
    page.locator("#confirm").get_by_role("button", name="Remove").click()
    expect(page.locator(".empty")).to_have_text("The trash is empty.")


def test_a_collection_is_shown_by_class_and_in_pages(page: Page, client: Client) -> None:
    client.upload(
        "web-many", [(f"{number}.jpg", picture(number, size=(40, 30))) for number in range(600, 650)], label="a"
    )
    client.upload("web-many", [("other.jpg", picture(651))], label="b")
    client.wait_for("web-many", 51)
    page.goto("/collections/web-many")
    expect(page.locator("#count")).to_have_text("51")
    expect(page.locator("#gallery .work")).to_have_count(48)
    page.get_by_role("link", name="Earlier").click()
    expect(page.locator("#gallery .work")).to_have_count(3)
    expect(page.locator(".pager")).to_contain_text("Page 2 of 2")
    page.locator(".classes").get_by_role("link", name="b").click()
    expect(page.locator("#gallery .work")).to_have_count(1)
    expect(page.locator("#gallery-title")).to_have_text("b 1")


def test_a_collection_is_deleted_after_its_name_was_typed(page: Page, client: Client, watch: Watch) -> None:
    client.upload("web-unwanted", [("only.jpg", picture(730))])
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/collections/web-unwanted")
    page.get_by_label("Type web-unwanted to confirm").fill("web-wanted")
    page.get_by_role("button", name="Delete the collection").click()
    expect(page.locator("#delete-problem")).to_contain_text("nothing was deleted")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_label("Type web-unwanted to confirm").fill("web-unwanted")
    page.get_by_role("button", name="Delete the collection").click()
    expect(page.locator("h1")).to_have_text("Collections")

    def is_gone() -> bool:  # a deletion that takes long goes on behind the page
        page.goto("/collections")
        return page.locator(".room-name", has_text="web-unwanted").count() == 0

    eventually(is_gone)
    watch.expect_status(422)
    watch.expect_status(404)  # the pictures of a list that is shown meanwhile
