"""Proof on the search page: hits that show the same are marked, and laid over the query."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Page, expect

from shared.proof.measured import FALSE_ALARMS
from tests.browser.actions import jpeg
from tests.browser.conftest import COLLECTION, Watch
from tests.support.processes import free_port
from tests.support.served_web import served_web
from tests.support.stack import Stack


def detail(gallery: Path) -> tuple[str, bytes]:
    """Return the name of a work of the gallery, and most of it as in a mirror."""
    path = sorted(gallery.rglob("*.jpg"))[0]
    work = Image.open(path).convert("RGB")
    part = work.crop((work.width // 8, work.height // 8, work.width * 7 // 8, work.height * 7 // 8))
    file = io.BytesIO()
    ImageOps.mirror(part).save(file, "JPEG", quality=70)
    return path.name, file.getvalue()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_hit_that_shows_the_same_is_laid_over_the_query(page: Page, gallery: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(reduced_motion="reduce")
    name, data = detail(gallery)
    page.goto("/?collection=default")
    page.get_by_text("Copies", exact=True).click()
    page.get_by_label("Check which are the same").check()
    page.wait_for_url("**proof=true**")  # the switch, like the other options, is in the address
    page.set_input_files("#image", jpeg("mine.jpg", data))
    told = re.compile(r"^[1-9] of the first 12 shows? the same as the query, or a part of it.$")
    expect(page.locator("#results .compared")).to_have_text(told)
    first = page.locator("#results .work").first
    expect(first.locator(".name")).to_contain_text(name)
    expect(first.locator(".region polygon")).to_have_count(2)
    first.get_by_role("button", name="The same picture, mirrored").click()
    dialog = page.get_by_role("dialog", name="The same picture")
    expect(dialog).to_contain_text("as in a mirror")
    expect(dialog).to_contain_text(f"{FALSE_ALARMS.pairs:,} pairs")
    assert int(dialog.locator("[data-inliers]").inner_text()) >= 8
    for part in ("first", "second", "laid"):
        box = dialog.locator(f"#comparison-{part}").bounding_box()
        assert box is not None
        assert 100 < box["width"] <= width
    # Laid over each other, the corners of the hit's region come to lie on those of the query's.
    laid = dialog.locator("#comparison-laid image").last
    assert "matrix(-" in (laid.get_attribute("transform") or "")
    slider = dialog.get_by_role("slider")
    expect(slider).to_have_value("50")
    slider.focus()
    page.keyboard.press("End")
    expect(laid).to_have_attribute("opacity", "1")
    page.keyboard.press("b")  # one turn: nothing moves by itself where motion is not wanted
    expect(laid).to_have_attribute("opacity", "0")
    expect(dialog.locator("#comparison-blink")).to_have_attribute("aria-pressed", "false")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert "proof=true" in page.url


def test_a_system_that_compares_no_hits_searches_all_the_same(
    browser: Browser, stack: Stack, watch: Watch, shown: dict[str, bytes]
) -> None:
    port = free_port()
    values = {
        "proof_hits": 0,
        "web_listen": f"127.0.0.1:{port}",
        "public_url": f"http://127.0.0.1:{port}",
        "insecure": True,
    }
    with served_web(stack.settings.model_copy(update=values)):
        context = browser.new_context(base_url=f"http://127.0.0.1:{port}")
        context.on("weberror", lambda error: watch.errors.append(str(error.error)))
        page = context.new_page()
        page.goto(f"/?collection={COLLECTION}")
        page.set_input_files("#image", jpeg("mine.jpg", shown["work 401.jpg"]))
        expect(page.locator("#results .name").first).to_have_text("work 401.jpg")
        expect(page.get_by_text("Check which are the same")).to_have_count(0)
        context.close()
    assert watch.errors == []
