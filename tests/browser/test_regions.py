"""Regions on the pages: the switch tells the costs, a detail finds its picture, and the region is framed."""

import re
from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from shared.windows import windows
from tests.browser.actions import jpeg
from tests.support.pictures import detailed, saved
from tests.support.web_client import Client

NAME = "regions-pages"
COUNT, DETAIL, PLACE = 5, 3, 20
WIDTH, HEIGHT = 480, 360


def work(number: int) -> Image.Image:
    return detailed(300 + number, WIDTH, HEIGHT)


@pytest.fixture
def collection(client: Client) -> Iterator[str]:
    files = [(f"work {number}.jpg", saved(work(number), "JPEG", quality=95)) for number in range(COUNT)]
    client.upload(NAME, files)
    yield NAME
    client.call("DELETE /collections/{name}", name=NAME)


def test_regions_are_switched_on_found_framed_and_left_out(page: Page, client: Client, collection: str) -> None:
    page.goto(f"/collections/{collection}")
    section = page.get_by_role("region", name="Find pictures by a detail")
    expect(section.locator("#regions-costs")).to_contain_text(f"at most {38 * COUNT} embeddings")
    section.get_by_role("button", name="Index regions").click()
    page.wait_for_url("**/jobs/*")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Index of regions")
    assert client.finished(page.url.rpartition("/")[2])["rejected"] == []
    page.goto(f"/collections/{collection}")
    expect(page.locator("#regions")).to_contain_text(f"{38 * COUNT} windows of {COUNT} of the {COUNT} images")

    box = left, top, right, bottom = windows(WIDTH, HEIGHT)[PLACE]
    page.goto(f"/?collection={collection}")
    page.set_input_files("#image", jpeg("detail.jpg", saved(work(DETAIL).crop(box), "JPEG", quality=95)))
    first = page.locator("#results .work").first
    expect(first.locator(".name")).to_have_text(f"work {DETAIL}.jpg")
    expect(first).to_contain_text("a region of it")
    frame = first.locator(".region rect").last
    found = tuple(int(frame.get_attribute(name) or -1) for name in ("x", "y", "width", "height"))
    assert found == (left, top, right - left, bottom - top)
    # At one moment: what is above may still grow.
    picture, drawn = first.evaluate(
        """work => [work.querySelector("img"), [...work.querySelectorAll(".region rect")].at(-1)]
               .map((shown) => shown.getBoundingClientRect().toJSON())"""
    )
    for start, end in (("left", "right"), ("top", "bottom")):
        assert picture[start] - 3 <= drawn[start] <= drawn[end] <= picture[end] + 3
    expect(page.locator("#results")).to_contain_text("of their windows")

    page.get_by_label("Whole pictures only").check()
    page.wait_for_url("**regions=false**")
    expect(page.locator("#results .region")).to_have_count(0)
    page.reload()
    expect(page.get_by_label("Whole pictures only")).to_be_checked()
    expect(page.locator("#results .region")).to_have_count(0)
    page.get_by_label("Whole pictures only").uncheck()
    expect(page).not_to_have_url(re.compile("regions=false"))
    expect(page.locator("#results .region").first).to_be_visible()

    page.goto(f"/collections/{collection}")
    page.get_by_role("button", name="Remove the index of regions").click()
    page.wait_for_url("**/jobs/*")
    client.finished(page.url.rpartition("/")[2])
    page.goto(f"/?collection={collection}")
    expect(page.get_by_label("Whole pictures only")).to_have_count(0)
