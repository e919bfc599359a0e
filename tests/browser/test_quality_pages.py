"""What holds on every page of quality: screens, paper, keyboard, hostile names, what is not there."""

from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import drawn
from tests.browser.conftest import Watch
from tests.browser.evaluated import CLASSES, NAME, PATHS, K, Report, address, pages_of
from tests.support.stack import Stack
from tests.support.web_client import Client


def test_nothing_is_wider_than_the_screen_or_the_paper(browser: Browser, stack: Stack, report: Report) -> None:
    context = browser.new_context(base_url=stack.url)
    page = context.new_page()
    for path in pages_of(report):
        page.set_viewport_size({"width": 1280, "height": 900})
        page.emulate_media(media="screen")
        page.goto(path)
        for width in (360, 768):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            page.wait_for_function(
                """() => [...document.querySelectorAll('.plot')].every((plot) =>
                    Math.abs(plot.querySelector('svg').getBoundingClientRect().width - plot.clientWidth) <= 1)"""
            )
        page.set_viewport_size({"width": 794, "height": 1123})
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= 794, path
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        expect(page.locator(".choose:visible, .judge:visible, .screen-only:visible")).to_have_count(0)
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        expect(page.locator("details:not([open])")).to_have_count(0)
    context.close()


def test_charts_are_read_by_the_keyboard_and_everything_has_a_name(page: Page, report: Report) -> None:
    page.goto(address(report, PATHS["exact"]))
    drawn(page)
    page.locator("#by-run .plot").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    one = report["runs"][0]
    low, high = one["interval"]["p_at_k"]
    told = f"P@{K} {one['p_at_k']:.3f} ({low:.3f} to {high:.3f})"
    expect(page.locator("#by-run [role=status]")).to_have_text(f"{told}, exact, cosine, all images")
    expect(page.locator("#by-run .tip")).to_contain_text(told)
    page.keyboard.press("Tab")
    expect(page.locator("#by-run .tip")).to_be_hidden()
    for path in pages_of(report):
        page.goto(path)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll(
                  "a, button, input:not([type=hidden]), select, textarea, [tabindex='0']")]
                .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim()
                  || element.labels?.length || element.querySelector("img[alt]")))
                .map((element) => element.outerHTML)"""
        )
        assert nameless == []


def test_names_are_text_and_nothing_else(page: Page, report: Report) -> None:
    for path in pages_of(report):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        assert "owned" not in page.title()
        assert page.locator("main script, main img[src='x']").count() == 0
    page.goto(address(report))
    expect(page.locator("#by-class svg")).to_contain_text("'\"><img src=x onerror=")
    page.locator("#confusion .plot").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#confusion .tip")).to_contain_text(f"{sorted(CLASSES)[0]} → {sorted(CLASSES)[0]}")
    assert page.locator("main script, main img[src='x']").count() == 0


def test_what_is_not_there_is_said(page: Page, watch: Watch, report: Report) -> None:
    for path, words in (
        (f"/evaluations/{NAME}/none", f"the collection '{NAME}' has no evaluation 'none'"),
        (f"{address(report)}?run=no-such-run", "has no run 'no-such-run'"),
        (f"/evaluations/compare?a={report['id']}&b=none", "there is no evaluation 'none'"),
        ("/collections/web-none-yet/quality", "web-none-yet"),
    ):
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 404
        expect(page.locator("h1")).to_have_text("There is nothing here")
        expect(page.locator(".lede")).to_contain_text(words)
    watch.expect_status(404)


def test_an_evaluation_is_deleted_from_its_page(page: Page, report: Report, client: Client) -> None:
    assert report
    job = client.call("POST /evaluations", value={"collection": NAME, "sample": 4, "k": 3}).json["job"]
    client.finished(job)
    page.goto(f"/evaluations/{NAME}/{job}")
    page.get_by_text("Delete this evaluation").click()
    page.get_by_role("button", name="Delete it for good").click()
    expect(page.locator("h1")).to_have_text("Evaluations")
    assert client.call("GET /evaluations/{id}", id=job).status == 404
