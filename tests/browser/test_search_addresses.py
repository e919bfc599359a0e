"""Addresses of searches in a browser: by a file too, with what they cite, and with more hits."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from services.maintenance.kept_query_tidying import KeptQueryDuty
from shared.storage.object_store import ObjectStore
from tests.browser.actions import first_names, jpeg, open_search_page, requests_held, result_names
from tests.browser.conftest import COLLECTION, Watch
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

MANY = "web-pages-many"


@pytest.fixture(scope="module")
def many(client: Client) -> Iterator[str]:
    """A collection with more images than a page shows at first, and than the next ones add; one is ``work 405``."""
    files = [(f"leaf {number}.jpg", picture(number, size=(60, 40))) for number in range(700, 729)]
    files.append(("leaf 405.png", picture(405, size=(200, 150), form="PNG")))
    client.upload(MANY, files)
    client.wait_for(MANY, len(files))
    yield MANY
    client.call("DELETE /collections/{name}", name=MANY)


def test_a_search_by_a_file_opens_again_anywhere_until_the_file_goes(
    page: Page, browser: Browser, stack: Stack, watch: Watch, shown: dict[str, bytes]
) -> None:
    open_search_page(page)
    page.set_input_files("#image", jpeg("mine.png", shown["work 405.jpg"]))
    expect(page).to_have_url(
        re.compile(rf"collection={COLLECTION}&upload=[0-9a-f]{{64}}&model=[\w.-]+&model_version=1")
    )
    expect(page.locator("#results")).to_contain_text(re.compile(r"its picture is kept until \d+ \w+ 20\d\d"))
    page.get_by_label("Euclidean").press("Space")
    expect(page.locator("#results .facts")).to_contain_text("Euclidean")
    expect(page.locator("#found-title")).to_have_text("More like mine.png")
    address, names = page.url, first_names(page)
    assert names[0] == "work 405.jpg"
    page.locator("#results [data-more-like-this]").nth(1).click()
    expect(page.locator("#found-title")).to_have_text(f"More like {names[1]}")
    page.reload()  # which forgets what the page showed at each step
    page.go_back()
    expect(page.locator("#found-title")).to_have_text("More like mine.png")
    assert (page.url, first_names(page)) == (address, names)
    expect(page.locator("#query")).to_have_attribute("alt", "mine.png")

    plain = browser.new_context(java_script_enabled=False, base_url=stack.url).new_page()
    plain.goto(address)
    expect(plain.locator("#found-title")).to_have_text("More like mine.png")
    plain.set_input_files("#image", jpeg("other.jpg", shown["work 401.jpg"]))
    plain.get_by_role("button", name="Search").first.click()
    expect(plain).to_have_url(re.compile("upload=[0-9a-f]{64}"))
    expect(plain.locator("#found-title")).to_have_text("More like other.jpg")
    plain.context.close()

    KeptQueryDuty(ObjectStore.from_settings(stack.settings), days=0).run()
    page.reload()
    expect(page.locator("main")).to_contain_text("search for the file again")
    watch.expect_status(404)


def test_an_address_says_when_its_answer_comes_from_elsewhere(page: Page, shown: dict[str, bytes]) -> None:
    assert shown
    open_search_page(page)
    page.locator("#results [data-more-like-this]").first.click()
    expect(page).to_have_url(re.compile("&model="))
    address, note = page.url, page.locator("#results [role=note]")
    expect(note).to_have_count(0)
    page.goto(address)
    expect(page.locator("#found-title")).to_contain_text("More like")
    expect(note).to_have_count(0)
    page.goto(f"{address}&generation=9")
    expect(note).to_have_text(re.compile("cites an answer by generation 9 of the index. This one is by an exact scan"))
    page.goto(re.sub("model=[^&]+", "model=other", address))
    expect(note).to_have_text(re.compile("cites an answer by the model other, version 1. This one is by the model "))
    page.get_by_label("Euclidean").press("Space")  # a new answer cites itself
    expect(page.locator("#results .facts")).to_contain_text("Euclidean")
    expect(note).to_have_count(0)


def test_more_hits_come_by_scrolling_and_by_the_keyboard(page: Page, many: str) -> None:
    page.goto(f"/?collection={many}")
    page.locator("#results [data-more-like-this]").first.click()
    more, count = page.locator("[data-more-hits]"), page.locator(".more-hits")
    expect(count).to_contain_text("12 of 30")
    # The page itself scrolls to its results: whoever has not gone further has not asked for more.
    page.locator("#results").evaluate(
        "async (results) => { results.scrollIntoView({ behavior: 'instant' });"
        " for (let frame = 0; frame < 5; frame++) await new Promise(requestAnimationFrame); }"
    )
    expect(more).not_to_have_attribute("aria-disabled", "true")
    expect(count).to_contain_text("12 of 30")
    first = result_names(page)
    page.locator(".more-hits").scroll_into_view_if_needed()
    page.mouse.wheel(0, 4000)
    expect(count).to_contain_text(re.compile("(24|30) of 30"))
    page.mouse.wheel(0, 8000)
    expect(count).to_contain_text("30 of 30")
    expect(more).to_have_count(0)
    names = result_names(page)
    assert names[:12] == first
    assert len(set(names)) == 30
    assert "k=48" in page.url
    page.reload()
    expect(page.locator("#results .work")).to_have_count(30)
    assert result_names(page) == names

    page.goto(f"/?collection={many}&k=12&like={page.locator('#results .work').first.get_attribute('data-id')}")
    page.set_viewport_size({"width": 1280, "height": 6000})  # so that nothing scrolls, and nothing comes by itself
    more.press("Enter")
    expect(count).to_contain_text("24 of 30")
    expect(page.locator("#results .work").nth(12).locator("a").first).to_be_focused()


def test_more_hits_do_not_come_in_the_way_of_another_search(page: Page, many: str) -> None:
    page.goto(f"/?collection={many}")
    page.locator("#results [data-more-like-this]").first.click()
    expect(page.locator(".more-hits")).to_contain_text("12 of 30")
    names = result_names(page)
    with requests_held(page, re.compile(r"/results\?")) as held:
        page.locator("#results .work").nth(1).locator("[data-more-like-this]").click()
        expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
        page.locator(".more-hits").scroll_into_view_if_needed()
        page.mouse.wheel(0, 4000)
        page.locator("#results").evaluate(
            "async () => { for (let frame = 0; frame < 5; frame++) await new Promise(requestAnimationFrame); }"
        )
        assert len(held) == 1
    expect(page.locator("#found-title")).to_have_text(f"More like {names[1]}")


def test_a_mark_that_is_set_while_more_hits_come_waits_for_its_search(page: Page, many: str) -> None:
    page.goto(f"/?collection={many}")
    page.locator("#results [data-more-like-this]").first.click()
    expect(page.locator(".more-hits")).to_contain_text("12 of 30")
    with requests_held(page, re.compile(r"/results\?")):
        page.locator("[data-more-hits]").click()
        page.locator("#results .work").nth(3).get_by_role("button", name="More like").first.click()
        expect(page.locator("#marked")).to_contain_text("1 image is an example.")
    expect(page.locator(".more-hits")).to_contain_text(re.compile("(24|30) of 30"))
    expect(page.locator("#marked")).to_be_visible()


def test_all_collections_of_a_model_are_searched_together(page: Page, many: str, shown: dict[str, bytes]) -> None:
    open_search_page(page)
    page.get_by_label("And all others with its model").check()
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 405.jpg"]))
    expect(page.locator("#results")).to_contain_text("Searched together:")
    expect(page.locator("#results")).to_contain_text(many)
    works = page.locator("#results .work")
    expect(works.first.locator(".place")).to_have_text(COLLECTION)
    expect(works.first.locator(".name")).to_have_text("work 405.jpg")
    page.get_by_label("Results").select_option("48")
    expect(page).to_have_url(re.compile("&k=48&"))
    elsewhere = works.filter(has=page.locator(".place", has_text=many)).first
    name = elsewhere.locator(".name").text_content()
    assert name is not None
    names = result_names(page)
    page.reload()
    expect(works).to_have_count(len(names))
    assert result_names(page) == names
    elsewhere.locator("[data-more-like-this]").click()  # which leads to its collection, still among all
    expect(page.locator("#found-title")).to_have_text(f"More like {name.strip()}")
    expect(page).to_have_url(re.compile(f"collection={many}&.*everywhere=true"))
    expect(works.first.locator(".place")).to_have_text(many)


def test_several_files_are_one_search(page: Page, shown: dict[str, bytes]) -> None:
    open_search_page(page)
    names = ("work 405.jpg", "work 410.jpg")
    page.set_input_files("#image", [jpeg(name, shown[name]) for name in names])
    expect(page).to_have_url(re.compile("upload=[0-9a-f]{64}&upload=[0-9a-f]{64}"))
    assert set(result_names(page)[:2]) == set(names)
    expect(page.locator("#to-detail")).to_be_hidden()
    found = first_names(page)
    page.reload()
    expect(page.locator("#found-title")).to_have_text("More like work 405.jpg and 1 other")
    assert first_names(page) == found
    page.get_by_role("link", name="Without the file work 405.jpg").click()
    expect(page.locator("#found-title")).to_have_text("More like work 410.jpg")
    assert result_names(page)[0] == "work 410.jpg"
