"""The pages of the collections in a browser: uploads, deletion, classes and pages."""

import re

from playwright.sync_api import Page, expect

from tests.browser.actions import drop_files, jpeg
from tests.browser.conftest import Watch
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


def test_an_upload_of_which_nothing_can_be_taken(page: Page, watch: Watch) -> None:
    page.goto("/collections/web-nothing")
    page.set_input_files("#files", [jpeg("a.jpg", b"text"), jpeg("b.jpg", b"")])
    expect(page.locator("#progress-text")).to_have_text("0 added, 2 not taken")
    expect(page.locator("#refusals li")).to_have_count(2)
    watch.errors[:] = [error for error in watch.errors if "422" not in error]  # the browser notes the refusal


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
