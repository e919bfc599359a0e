"""The pages in the language of the browser, or in the one that was chosen: every page, scripts and numbers too."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import drawn, jpeg
from tests.browser.conftest import COLLECTION, Watch
from tests.browser.evaluated import Report, pages_of
from tests.browser.german import english_texts, expect_german
from tests.support.eventually import PATIENCE_S
from tests.support.stack import Stack
from tests.support.web_client import Client, picture


def german_page(browser: Browser, stack: Stack, width: int) -> Page:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, base_url=stack.url, locale="de-DE", timezone_id="Europe/Berlin"
    )
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    return page


@pytest.mark.parametrize("width", [360, 1280])
def test_every_page_is_german_for_a_german_browser(
    browser: Browser, stack: Stack, shown: dict[str, bytes], client: Client, report: Report, width: int
) -> None:
    page, known, axe, watch = german_page(browser, stack, width), english_texts(), Axe(), Watch()
    page.on("console", watch.note)
    assert shown
    image_id = client.wait_for(COLLECTION, len(shown))[0]["id"]
    client.finished(client.call("POST /collections/{name}/map", name=COLLECTION).json["job"])
    jobs = page.request.get("/api/v1/jobs").json()["jobs"]
    for path in (
        "/",
        f"/?collection={COLLECTION}",
        f"/?collection={COLLECTION}&id={image_id}",
        f"/?collection={COLLECTION}&id={image_id}&proof=true&sort=label",
        f"/?collection={COLLECTION}&like={image_id}",
        f"/?collection={COLLECTION}&text=nothing-at-all",
        f"/?collection={COLLECTION}&id={image_id}&everywhere=true&model=other",
        f"/collections/{COLLECTION}/images/{image_id}",
        f"/collections/{COLLECTION}/selection?ids={image_id}",
        f"/collections/{COLLECTION}/selection",
        "/collections",
        f"/collections/{COLLECTION}",
        f"/collections/{COLLECTION}?label=shapes",
        "/collections/web-none-yet",
        *pages_of(report),
        "/jobs",
        f"/jobs/{jobs[0]['id']}",
        f"/collections/{COLLECTION}/trash",
        f"/collections/{COLLECTION}/duplicates",
        f"/collections/{COLLECTION}/map",
        "/log-in",
        "/nothing/" + "z" * 200,
    ):
        page.goto(path)
        page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true;")
        expect_german(page, known, axe=axe)
    watch.expect_status(404)
    assert watch.errors == []
    page.context.close()


def test_scripts_write_german_too(browser: Browser, stack: Stack, shown: dict[str, bytes], report: Report) -> None:
    page = german_page(browser, stack, 390)
    known = english_texts()
    assert shown
    page.goto(f"/?collection={COLLECTION}")
    boxes = page.locator(".work [data-tick]")
    boxes.first.check()
    expect(page.locator("#tray-count")).to_have_text("1 Bild ausgewählt")
    boxes.nth(1).check()
    expect(page.locator("#tray-count")).to_have_text("2 Bilder ausgewählt")
    page.get_by_role("button", name="Anzeigen", exact=True).click()
    expect(page.locator("#ticked-title")).to_contain_text(f"Ausgewählte Bilder in {COLLECTION}")
    expect_german(page, known)
    page.locator("#ticked [data-close]").click()
    page.set_input_files("#image", jpeg("vase.jpg", picture(401)))
    expect(page.locator("#found-title")).to_have_text("Ähnlichste zuerst")
    expect(page.locator("#found .time dd")).to_have_text(re.compile(r"^\d+(,\d)? ms$"))
    expect(page.locator("#status")).to_have_text(re.compile("Ergebnisse eines vollständigen Vergleichs in"))
    expect_german(page, known)
    page.goto(f"/collections/{COLLECTION}")  # what the API says in English, scripts say by its code
    page.set_input_files("#files", jpeg("leer.jpg", b""))
    expect(page.locator("#refusals li")).to_have_text("leer.jpg Die Datei ist leer.")
    page.goto(pages_of(report)[0])
    drawn(page)
    page.locator("[data-chart] .plot").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("[data-chart] [role=status]").first).to_have_text(
        re.compile(r"P@\d+ [01],\d{3} \([01],\d{3} bis")
    )
    page.context.close()


@pytest.mark.usefixtures("shown")
def test_a_language_is_chosen_without_scripts_and_stays(browser: Browser, stack: Stack) -> None:
    context = browser.new_context(base_url=stack.url, locale="en-GB", java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/collections/{COLLECTION}?label=shapes")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.get_by_role("button", name="Deutsch").click()
    expect(page).to_have_url(re.compile(rf"/collections/{COLLECTION}\?label=shapes$"))
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.get_by_role("link", name="Dubletten")).to_be_visible()
    page.goto("/jobs")
    expect(page.locator("h1")).to_have_text("Aufträge")
    page.get_by_role("button", name="English").click()
    expect(page.locator("h1")).to_have_text("Jobs")
    context.close()
