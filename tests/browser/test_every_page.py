"""What holds on every page in a browser: narrow screens, accessible names, hostile file names, no layout shifts."""

import re
from functools import partial
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.actions import jpeg, requests_held
from tests.browser.conftest import COLLECTION, Watch
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

HOSTILE = "'><img src=x onerror=document.title='owned'><script>document.title='owned'.jpg"


SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
AXE = "axe.run({ resultTypes: ['violations'] }).then((found) => found.violations)"


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_no_page_is_wider_than_the_screen_nor_a_bar_to_anybody(
    browser: Browser, stack: Stack, shown: dict[str, bytes], client: Client, width: int
) -> None:
    long = [("x" * 180 + ".jpg", picture(700))]
    client.upload("web-long-" + "x" * 54, long, label="y" * 200)
    name = "web-long-" + "x" * 54
    image_id = client.wait_for(name, 1)[0]["id"]
    context = browser.new_context(viewport={"width": width, "height": 800}, base_url=stack.url)
    has_axe = width in {390, 1280}
    if has_axe:
        context.add_init_script(Axe().axe_script)
    page = context.new_page()
    assert shown
    for path in (
        "/",
        f"/?collection={COLLECTION}",
        f"/?collection={name}&id={image_id}",
        f"/?collection={name}&like={image_id}",
        f"/?collection={name}&id={image_id}&everywhere=true&model=other",
        f"/collections/{name}/images/{image_id}",
        f"/collections/{name}/selection?ids={image_id}",
        "/collections",
        f"/collections/{name}",
        f"/collections/{COLLECTION}",
        "/collections/web-none-yet",
        "/evaluations",
        "/jobs",
        f"/collections/{COLLECTION}/trash",
        f"/collections/{COLLECTION}/duplicates",
        f"/collections/{COLLECTION}/map",
        "/nothing/" + "z" * 200,
    ):
        page.goto(path)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert not has_axe or page.evaluate(AXE) == [], (path, scheme)
    context.close()


def test_everything_has_a_name_and_the_focus_can_be_seen(page: Page, shown: dict[str, bytes]) -> None:
    assert shown
    for path in (f"/?collection={COLLECTION}", f"/collections/{COLLECTION}", "/collections", "/jobs"):
        page.goto(path)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select")].filter((element) =>
                !(element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.length
                  || element.querySelector("img[alt]"))).map((element) => element.outerHTML)"""
        )
        assert nameless == []
        assert page.locator("img:not([alt])").count() == 0
        page.keyboard.press("Tab")
        skip = page.locator(":focus")
        expect(skip).to_have_text("Skip to the content")
        expect(skip).to_be_in_viewport()
        for _ in range(6):
            page.keyboard.press("Tab")
            outline = page.evaluate(
                """() => {
                    const focused = document.activeElement;
                    return [focused, focused.closest(".frame"), focused.nextElementSibling]
                        .some((element) => element && getComputedStyle(element).outlineStyle === "solid");
                }"""
            )
            assert outline, page.evaluate("document.activeElement.outerHTML")


def test_names_and_labels_are_text_and_nothing_else(page: Page, watch: Watch, client: Client) -> None:
    data = picture(710)
    label = "\"'><script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
    client.upload("web-hostile", [(HOSTILE, data), ("plain.jpg", picture(711))], label=label)
    for path in ("/collections/web-hostile", "/?collection=web-hostile"):
        page.goto(path)
        hostile = page.locator(".work").filter(has=page.locator(".name", has_text="onerror"))
        expect(hostile).to_have_count(1)
        hostile.locator(".mount").click()
        expect(page.locator("#lightbox .title")).to_contain_text("onerror")
        page.keyboard.press("Escape")
    hostile.locator("[data-more-like-this]").click()
    expect(page.locator("#found-title")).to_contain_text("onerror")
    page.set_input_files("#image", jpeg(HOSTILE, data))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    page.goto("/collections/web-hostile")
    page.set_input_files("#files", jpeg(HOSTILE, b"text"))
    expect(page.locator("#refusals li")).to_have_count(1)
    hostile.locator("[data-delete]").click()
    expect(page.locator("#confirm-name")).to_contain_text("onerror")
    assert "owned" not in page.title()
    assert page.locator("#gallery script, #results script, main img[src='x']").count() == 0
    watch.expect_status(422)


def seen(page: Page, requests: list[Route]) -> list[Route]:
    """Return the requests that have come, once the page has answered: until then we are told of none."""
    page.wait_for_timeout(20)
    return requests


def test_pictures_keep_their_place_while_they_load(page: Page, shown: dict[str, bytes]) -> None:
    assert shown
    page.add_init_script(
        """window.shifts = [];
        const observer = new PerformanceObserver((list) => window.shifts.push(...list.getEntries()));
        observer.observe({ type: "layout-shift" });"""
    )
    for path in (f"/?collection={COLLECTION}", f"/collections/{COLLECTION}", "/collections"):
        with requests_held(page, re.compile("/thumbnail")) as held:
            page.goto(path, wait_until="domcontentloaded")
            # What the page does while it arrives itself is no matter of its pictures.
            laid_out = page.evaluate(
                """() => new Promise((done) => {
                    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())));
                })"""
            )
            eventually(partial(seen, page, held))
        page.wait_for_load_state("networkidle")
        assert page.evaluate("[...document.images].some((image) => image.naturalWidth > 1)")
        moved = page.evaluate(
            "since => window.shifts.filter((one) => one.startTime > since).reduce((sum, one) => sum + one.value, 0)",
            laid_out,
        )
        assert moved < 0.01
