"""The zoom of the full picture in a browser: by mouse and keys, from tiles of the original, and without scripts."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import open_search_page, pinch, result_names
from tests.browser.conftest import Watch
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

NAME = "web-zoom"
LARGE = (5000, 3000)
FINEST = "13/"  # the level that has all of its pixels


@pytest.fixture(scope="module")
def large(client: Client) -> int:
    """The id of an image that has more pixels than its derivative."""
    client.upload(NAME, [("large.jpg", picture(930, size=LARGE))])
    image: int = client.wait_for(NAME, 1)[0]["id"]
    return image


def tiles(page: Page) -> set[str]:
    """Return the tiles that the page has asked for so far: level and place."""
    found: list[str] = page.evaluate(
        "performance.getEntriesByType('resource').map((entry) => entry.name.match(/tiles[/](.*)$/)?.[1] ?? '')"
    )
    return {name for name in found if name}


def has_finest(found: set[str]) -> bool:
    return any(tile.startswith(FINEST) for tile in found)


def test_two_fingers_zoom_in_to_tiles_of_the_original(browser: Browser, stack: Stack, large: int) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 700}, base_url=stack.url, has_touch=True)
    page = context.new_page()
    page.goto(f"/collections/{NAME}/images/{large}")
    page.locator(".one-image .mount").tap()
    view = page.locator("#zoom .openseadragon-canvas")
    expect(view).to_be_focused()  # which it is when the picture is there
    assert not has_finest(tiles(page))
    for _ in range(3):
        pinch(view, range(10, 170, 20))
    eventually(lambda: tiles(page), until=has_finest)
    assert page.evaluate("visualViewport.scale") == 1  # the picture is zoomed, and not the page
    context.close()


def test_zooming_in_shows_tiles_of_the_original(page: Page, large: int) -> None:
    page.goto(f"/collections/{NAME}/images/{large}")
    page.locator(".one-image .mount").click()
    view = page.locator("#zoom .openseadragon-canvas")
    expect(view).to_be_visible()
    expect(view).to_be_focused()
    expect(page.locator("#zoom .title")).to_have_text("large.jpg")
    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()
    assert not has_finest(tiles(page))  # as finely as the screen shows, no finer
    page.get_by_role("button", name="Show each pixel of it as one").click()
    eventually(lambda: tiles(page), until=has_finest)
    view.focus()
    for _ in range(40):  # to the upper left corner
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
    eventually(lambda: tiles(page), until=lambda seen: f"{FINEST}0_0" in seen)
    page.keyboard.press("Escape")
    expect(page.locator("#zoom")).to_be_hidden()
    expect(page.locator(".one-image .mount")).to_be_focused()


def test_the_wheel_zooms_on_a_phone_s_width_too(browser: Browser, stack: Stack, large: int) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 700}, base_url=stack.url, has_touch=True)
    page = context.new_page()
    page.goto(f"/collections/{NAME}/images/{large}")
    page.locator(".one-image .mount").click()
    expect(page.locator("#zoom .openseadragon-canvas")).to_be_focused()
    assert not has_finest(tiles(page))
    page.mouse.move(200, 350)

    def zoomed() -> set[str]:
        page.mouse.wheel(0, -400)
        return tiles(page)

    eventually(zoomed, until=has_finest)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.get_by_role("button", name="Close")).to_be_in_viewport()
    context.close()


@pytest.mark.usefixtures("shown")
def test_a_hit_is_zoomed_from_its_large_view(page: Page) -> None:
    open_search_page(page)
    name = result_names(page)[1]
    page.locator("#results .mount").nth(1).click()
    page.get_by_role("button", name="Zoom", exact=True).click()
    expect(page.locator("#zoom .openseadragon-canvas")).to_have_attribute("aria-label", re.compile(re.escape(name)))
    assert not tiles(page)  # it is small: what pages show has all its pixels
    page.keyboard.press("Escape")
    expect(page.locator("#zoom")).to_be_hidden()
    expect(page.locator("#lightbox")).to_be_visible()


def test_a_tile_that_cannot_be_had_is_told_of(page: Page, large: int, watch: Watch) -> None:
    page.route("**/tiles/**", lambda route: route.fulfill(status=500))
    page.goto(f"/collections/{NAME}/images/{large}")
    page.locator(".one-image .mount").click()
    expect(page.locator("#zoom-said")).to_have_text(re.compile("^A part of the full picture cannot be had"))
    page.close()
    watch.errors.clear()  # of tiles that failed, which are tried again


def test_without_scripts_the_picture_is_shown_and_leads_to_the_original(
    browser: Browser, stack: Stack, large: int
) -> None:
    context = browser.new_context(base_url=stack.url, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/collections/{NAME}/images/{large}")
    expect(page.locator(".one-image img")).to_have_attribute("src", re.compile("/preview$"))
    expect(page.locator(".one-image .mount")).to_have_attribute("href", re.compile("/original$"))
    expect(page.locator("#zoom")).to_be_hidden()
    context.close()
