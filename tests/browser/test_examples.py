"""Examples: marked, weighed, taken away, searched with, and kept as what was judged."""

import re
import zipfile

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.browser.actions import (
    jpeg,
    open_search_page,
    result_names,
)
from tests.browser.conftest import COLLECTION
from tests.support.web_client import Client, picture


@pytest.mark.usefixtures("shown")
def test_images_are_marked_as_examples_weighed_and_taken_away(page: Page) -> None:
    open_search_page(page)
    page.locator("#results [data-more-like-this]").first.click()
    title = page.locator("#found-title")
    expect(title).to_contain_text("More like")
    names = result_names(page)
    bar, parts = page.locator("#marked"), page.locator("#results [data-example]")
    expect(bar).to_be_hidden()

    def mark(name: str, how: str) -> Locator:
        return page.get_by_role("button", name=f"{how} like {name}", exact=True)

    mark(names[1], "More").click()
    expect(bar).to_contain_text("1 image is an example.")
    mark(names[2], "More").click()
    mark(names[2], "Less").press("Enter")  # an image is on one side
    expect(mark(names[2], "More")).to_have_attribute("aria-pressed", "false")
    expect(bar).to_contain_text("2 images are examples.")
    bar.get_by_role("button", name="Search again with them").click()
    expect(parts).to_have_count(2)
    expect(bar).to_be_hidden()
    ids = [parts.nth(place).get_attribute("data-example") for place in range(2)]
    assert re.search(rf"&like={ids[0]}&unlike={ids[1]}&id=\d+&model=", page.url)
    expect(mark(names[1], "More")).to_have_attribute("aria-pressed", "true")

    page.get_by_role("link", name=f"{names[1]} counts 1 times: change its weight").click()
    expect(parts.first).to_contain_text("× 2")
    assert page.url.count(f"like={ids[0]}") == 2
    other = result_names(page)[5]
    mark(other, "More").click()
    bar.get_by_role("button", name="Forget them").click()
    expect(mark(other, "More")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("link", name=f"Without the example {names[2]}").click()
    expect(parts).to_have_count(1)
    page.go_back()
    expect(parts).to_have_count(2)
    page.reload()
    expect(parts).to_have_count(2)

    # Without a picture, the examples alone; and another picture begins anew.
    page.goto(f"/?collection={COLLECTION}&like={ids[0]}&like={ids[0]}")
    expect(title).to_have_text("Most like the examples first")
    assert result_names(page)[0] == names[1]
    page.get_by_label("Results").select_option("24")
    expect(page).to_have_url(re.compile(rf"/\?collection={COLLECTION}&k=24&like={ids[0]}&like={ids[0]}&model="))
    page.locator("#results [data-more-like-this]").nth(1).click()
    expect(title).to_contain_text("More like")
    expect(parts).to_have_count(0)


@pytest.mark.usefixtures("shown")
def test_the_picture_counts_by_its_weight_and_what_was_judged_is_kept(page: Page, client: Client) -> None:
    open_search_page(page)
    page.locator("#results [data-more-like-this]").first.click()
    names = result_names(page)
    page.get_by_role("button", name=f"More like {names[1]}", exact=True).click()
    page.get_by_role("button", name=f"Less like {names[5]}", exact=True).click()
    page.get_by_role("button", name="Search again with them").click()
    weight = page.locator("[data-part=query] a")
    scores = page.locator("#results .score")
    expect(weight).to_have_text("× 1")
    before = scores.all_text_contents()
    weight.click()
    expect(weight).to_have_text("× 2")
    expect(page).to_have_url(re.compile("&weight=2&"))
    assert scores.all_text_contents() != before
    page.get_by_label("Results").select_option("24")  # which keeps the weight
    expect(page).to_have_url(re.compile("&weight=2&"))
    weight.click()
    weight.click()
    expect(weight).to_have_text("× 0.5")
    page.go_back()
    expect(weight).to_have_text("× 3")

    page.get_by_text("Keep what was judged").click()
    judged = page.locator("form[data-judged]")
    expect(judged.get_by_label("Class")).to_have_value(re.compile("shapes|forms"))
    judged.get_by_label("Class").fill("shapes")
    judged.get_by_label("Query set").fill("web-judged")
    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()
    judged.get_by_role("button", name="Keep as queries").click()
    told = "The query set web-judged has 2 queries. 8 images of the collection have this label."
    expect(judged.get_by_role("status")).to_have_text(told)
    kept = {held["name"]: held["classes"] for held in client.call("GET /querysets").json["querysets"]}
    assert kept["web-judged"] == {"shapes": 2}
    with page.expect_download() as download:
        judged.get_by_role("button", name="Files to train on").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        folders = sorted(name.rpartition("/")[0] for name in archive.namelist())
    assert folders == ["background", "classes/shapes", "classes/shapes"]
    client.call("DELETE /querysets/{name}", name="web-judged")

    page.locator("#results [data-more-like-this]").nth(1).click()  # another picture begins anew
    expect(page.locator("[data-part=query]")).to_have_count(0)
    assert "weight" not in page.url


def test_a_file_is_searched_for_with_examples(page: Page, shown: dict[str, bytes]) -> None:
    open_search_page(page)
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 404.jpg"]))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    page.locator("#results .work").nth(5).locator("[data-mark=like]").click()
    page.locator("#search-marked").click()
    expect(page.locator("#results [data-example]")).to_have_count(1)
    expect(page.locator("#query")).to_have_attribute("alt", "mine.jpg")
    page.locator("#results [data-example]").get_by_role("link", name="Without the example").click()
    expect(page.locator("#results [data-example]")).to_have_count(0)
    assert result_names(page)[0] == "work 404.jpg"


@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize("width", [1280, 390])
def test_hits_of_several_collections_are_marked(page: Page, client: Client, width: int) -> None:
    other = f"web-pages-marked-{width}"
    client.upload(other, [(f"sheet {number}.jpg", picture(number, size=(200, 150))) for number in range(440, 446)])
    client.wait_for(other, 6)
    try:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"/?collection={COLLECTION}&k=48")
        page.get_by_label("And all others with its model").check()
        page.locator("#results [data-more-like-this]").first.click()
        works = page.locator("#results .work")
        elsewhere = works.filter(has=page.locator(".place", has_text=other)).first
        here = works.filter(has=page.locator(".place", has_text=re.compile(rf"^\s*{COLLECTION}\s*$"))).nth(2)
        ids = [work.get_attribute("data-id") for work in (here, elsewhere)]
        elsewhere.locator("[data-mark=like]").click()
        here.locator("[data-mark=unlike]").click()
        expect(page.locator("#marked")).to_contain_text("2 images are examples.")
        page.get_by_role("button", name="Search again with them").click()
        parts = page.locator("#results [data-example]")
        expect(parts).to_have_count(2)
        expect(page).to_have_url(re.compile(rf"like={ids[1]}&unlike={ids[0]}&.*everywhere=true"))
        for place, collection in ((0, other), (1, COLLECTION)):
            shown = parts.nth(place).locator("img")
            expect(shown).to_have_attribute("src", re.compile(f"/collections/{collection}/images/"))
            expect(shown).to_have_js_property("naturalWidth", 200)
        found = Axe().run(page)
        assert not found.violations_count, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        parts.first.get_by_role("link", name="Without the example").click()
        expect(parts).to_have_count(1)
        page.reload()
        expect(parts).to_have_count(1)
        assert page.locator("#results .place", has_text=other).count()
    finally:
        client.call("DELETE /collections/{name}", name=other)
