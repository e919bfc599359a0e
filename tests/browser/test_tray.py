"""The tray of ticked images: ticking on all pages, what survives, what is done with them, and by whom."""

import json
import re
from pathlib import Path
from zipfile import ZipFile

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.actions import open_search_page, result_names
from tests.browser.conftest import COLLECTION
from tests.support.eventually import eventually
from tests.support.web_client import Client, picture


def boxes(page: Page, place: str = "main") -> list[bool]:
    return [bool(box.is_checked()) for box in page.locator(f"{place} input[data-tick]").all()]


@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize("width", [1280, 390])
def test_ticks_survive_pages_and_reloads_and_open_as_an_address(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    open_search_page(page)
    tray, count = page.locator("#tray"), page.locator("#tray-count")
    expect(tray).to_be_hidden()
    works = page.locator("#results .work")
    works.nth(1).hover()
    works.nth(1).locator("[data-tick]").check()
    expect(count).to_have_text("1 image ticked")
    works.nth(4).locator("[data-tick]").click(modifiers=["Shift"])
    expect(count).to_have_text("4 images ticked")
    assert boxes(page, "#results")[:6] == [False, True, True, True, True, False]
    works.nth(2).locator("[data-tick]").uncheck()
    names = [result_names(page)[place] for place in (1, 3, 4)]
    page.reload()
    expect(count).to_have_text("3 images ticked")
    works.first.locator("[data-more-like-this]").click()
    expect(page.locator("#found-title")).to_contain_text("More like")
    expect(count).to_have_text("3 images ticked")
    # Both of each at one moment: more results may come behind.
    shown = page.evaluate(
        "[...document.querySelectorAll('#results .work')].map("
        "work => [work.querySelector('.name').textContent.trim(), work.querySelector('[data-tick]').checked])"
    )
    assert len(shown) > 3
    assert all(is_ticked == (name in names) for name, is_ticked in shown)

    page.goto(f"/collections/{COLLECTION}")
    expect(count).to_have_text("3 images ticked")
    assert sum(boxes(page)) == 3
    page.get_by_role("button", name="Show them").click()
    dialog = page.locator("#ticked")
    expect(dialog.locator("#ticked-images .name")).to_have_text([re.compile(re.escape(name)) for name in names])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    dialog.get_by_text("Export").click()
    dialog.get_by_text("Share", exact=True).click()
    dialog.get_by_text("Label", exact=True).click()
    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()
    dialog.get_by_role("button", name=f"Untick {names[0]}").click()
    expect(count).to_have_text("2 images ticked")
    expect(dialog.get_by_role("button", name=f"Untick {names[1]}")).to_be_focused()
    dialog.get_by_role("button", name="Copy").click()
    expect(dialog.locator("#ticked-said")).to_have_text("The address is copied.")
    page.goto(page.evaluate("navigator.clipboard.readText()"))
    expect(page.locator(".work .name")).to_have_text(names[1:])
    page.get_by_role("button", name="Untick all").click()
    expect(tray).to_be_hidden()
    page.get_by_role("button", name="Tick them all").click()
    expect(count).to_have_text("2 images ticked")
    page.reload()
    expect(count).to_have_text("2 images ticked")
    assert boxes(page) == [True, True]


@pytest.mark.usefixtures("shown")
def test_keys_alone_tick_a_range_and_search_with_it(page: Page) -> None:
    open_search_page(page)
    names = result_names(page)
    for key in ("j", "x", "j", "j", "Shift+X"):
        page.keyboard.press(key)
    expect(page.locator("#tray-count")).to_have_text("3 images ticked")
    expect(page.locator("#tray-said")).to_have_text(f"3 images of {COLLECTION} ticked.")
    page.keyboard.press("x")
    expect(page.locator("#tray-count")).to_have_text("2 images ticked")
    page.keyboard.press("t")
    dialog = page.locator("#ticked")
    expect(dialog.locator("li")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Show them").press("Enter")
    dialog.get_by_role("button", name="More like these").press("Enter")
    expect(page.locator("#results .part img")).to_have_count(2)
    assert [image.get_attribute("alt") for image in page.locator("#results .part img").all()] == names[:2]
    page.goto(f"/collections/{COLLECTION}")
    page.get_by_role("button", name="Show them").click()
    dialog.get_by_role("button", name="Less like these").click()
    expect(page).to_have_url(re.compile("unlike=.*unlike="))
    expect(page.locator("#results .part-mark")).to_have_text([re.compile("− unlike"), re.compile("− unlike")])


def test_files_of_ticked_images_a_label_for_all_and_the_trash(page: Page, client: Client, tmp_path: Path) -> None:
    files = {f"tray {number}.jpg": picture(number) for number in range(840, 845)}
    client.upload("web-tray", list(files.items()), label="before")
    client.wait_for("web-tray", len(files))
    page.goto("/collections/web-tray")
    for name in ("tray 841.jpg", "tray 843.jpg"):
        page.get_by_label(f"Tick {name}").check()
    page.get_by_role("button", name="Show them").click()
    dialog = page.locator("#ticked")
    dialog.get_by_text("Export").click()
    with page.expect_download() as coming:
        dialog.get_by_role("button", name="JSON lines").click()
    coming.value.save_as(tmp_path / "some.jsonl")
    lines = (tmp_path / "some.jsonl").read_text().splitlines()
    assert [json.loads(line)["filename"] for line in lines] == ["tray 841.jpg", "tray 843.jpg"]
    with page.expect_download() as coming:
        dialog.get_by_role("button", name=re.compile("ZIP, 0.0 MB")).click()
    coming.value.save_as(tmp_path / "some.zip")
    with ZipFile(tmp_path / "some.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            name: files[name] for name in ("tray 841.jpg", "tray 843.jpg")
        }

    dialog.get_by_text("Label", exact=True).click()
    dialog.get_by_label("Label of all").fill("after")
    dialog.get_by_role("button", name="Set the label").click()
    expect(dialog.locator("#ticked-said")).to_have_text("2 images have the label after.")
    labels = {image["name"]: image["labels"] for image in client.wait_for("web-tray", 5)}
    assert {name for name, held in labels.items() if held == ["after"]} == {"tray 841.jpg", "tray 843.jpg"}

    dialog.get_by_role("button", name="Delete…").click()
    page.locator("#ticked-confirm").get_by_role("button", name="Keep").click()
    assert len(client.wait_for("web-tray", 5)) == 5
    dialog.get_by_role("button", name="Delete…").click()
    page.locator("#ticked-confirm").get_by_role("button", name="Delete").click()
    expect(page.locator("#tray-said")).to_have_text("2 images were moved to the trash.")
    expect(page.locator("#gallery .work")).to_have_count(3)
    expect(page.locator("#count")).to_have_text("3")
    expect(page.locator("#tray")).to_be_hidden()
    found = client.call("GET /collections/{name}/trash", name="web-tray").json["images"]
    assert {entry["name"] for entry in found} == {"tray 841.jpg", "tray 843.jpg"}


@pytest.mark.usefixtures("shown")
def test_ticks_reach_the_edit_of_several_and_those_that_are_gone_leave_the_tray(page: Page, client: Client) -> None:
    files = [(f"edit {number}.jpg", picture(number)) for number in range(850, 854)]
    client.upload("web-tray-edit", files, label="before")
    ids = {image["name"]: image["id"] for image in client.wait_for("web-tray-edit", len(files))}
    page.goto(f"/collections/web-tray-edit/selection?ids={ids['edit 850.jpg']}")
    page.get_by_label("Tick edit 850.jpg").check()
    page.goto("/collections/web-tray-edit")
    page.get_by_label("Tick edit 852.jpg").check()
    page.get_by_text("Edit several images").click()
    page.locator("#edit-many [name=field]").fill("labels")
    page.locator("#edit-many [name=values]").fill("after")
    page.get_by_role("button", name="Set for these").click()
    expect(page.locator("#tray-count")).to_have_text("2 images ticked")
    eventually(
        lambda: (
            sorted(i["name"] for i in client.wait_for("web-tray-edit", 4) if i["labels"] == ["after"])
            == ["edit 850.jpg", "edit 852.jpg"]
        )
    )
    client.call("DELETE /collections/{name}/images/{id}", name="web-tray-edit", id=ids["edit 850.jpg"])
    page.get_by_role("button", name="Show them").click()
    expect(page.locator("#ticked-said")).to_have_text("1 image is not in the collection any more.")
    expect(page.locator("#ticked-images li")).to_have_count(1)

    page.goto(f"/?collection=web-tray-edit&id={ids['edit 852.jpg']}&everywhere=true")
    other = page.locator(f"#results [data-tick={COLLECTION}]").first
    other.check()
    page.locator("#tray-others").get_by_role("link", name=f"1 in {COLLECTION}").click()
    expect(page.locator("#tray-count")).to_have_text("1 image ticked")


@pytest.mark.usefixtures("shown")
def test_where_the_browser_keeps_nothing_or_nonsense_the_page_ticks_all_the_same(context: BrowserContext) -> None:
    nonsense = json.dumps({"format": 1, "ids": ["x", -1, 1.5, None]})
    context.add_init_script(
        f"""const refuse = {{ get() {{ throw new Error("off"); }} }};
        if (location.search.includes("off")) Object.defineProperty(window, "localStorage", refuse);
        else if (location.host) localStorage.setItem("artseek-ticked:{COLLECTION}", '{nonsense}');"""
    )
    page = context.new_page()
    for address in (f"/?collection={COLLECTION}&off", f"/?collection={COLLECTION}"):
        page.goto(address)
        expect(page.locator("html.scripted")).to_have_count(1)
        page.locator("#results .work").first.hover()
        page.locator("#results [data-tick]").first.check()
        expect(page.locator("#tray-count")).to_have_text("1 image ticked")
