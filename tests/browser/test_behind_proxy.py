"""The pages behind a real nginx, below a path, which hands on a host of its own: every request finds its way."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import jpeg
from tests.browser.conftest import COLLECTION
from tests.support.eventually import PATIENCE_S
from tests.support.nginx import nginx, recipe
from tests.support.processes import free_port
from tests.support.served_web import served_web
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

PREFIX = "/artseek"


@pytest.fixture(scope="module")
def behind(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where nginx shows a web service of its own; it cuts off the prefix of the API, not of the pages."""
    web = free_port()
    cut = f"location {PREFIX}/api/ {{ proxy_pass http://127.0.0.1:{web}/api/; }}"
    with nginx(tmp_path_factory.mktemp("nginx"), recipe(web).replace("256m", "1m") + cut) as port:
        values = {
            "public_url": f"http://127.0.0.1:{port}{PREFIX}",
            "trusted_proxies": "127.0.0.1",
            "web_listen": f"127.0.0.1:{web}",
            "insecure": True,
        }
        settings = stack.settings.model_copy(update=values)
        with served_web(settings):
            yield settings.public_url


def test_every_request_of_a_page_finds_its_way(browser: Browser, behind: str, shown: dict[str, bytes]) -> None:
    asked: list[str] = []
    with opened(browser, asked) as page:
        page.goto(f"{behind}/?collection={COLLECTION}")
        page.set_input_files("#image", [jpeg("work 401.jpg", shown["work 401.jpg"])])  # POST /results
        expect(page.locator("#status")).to_contain_text("results")
        expect(page.locator("#results .name").first).to_have_text("work 401.jpg")
        page.get_by_role("link", name="More like this").nth(1).click()
        expect(page.locator(".self")).to_have_text("The image searched for")
        page.goto(f"{behind}/collections")
        page.get_by_label("Name").fill("web-behind")
        page.get_by_role("button", name="Open").click()
        page.set_input_files("#files", [jpeg("new.jpg", picture(590))])
        expect(page.locator("#progress-text")).to_have_text("1 added")
        page.get_by_role("button", name="Delete new.jpg").click()
        page.locator("#confirm").get_by_role("button", name="Delete it").click()
        expect(page.locator("#gallery .work")).to_have_count(0)
        page.get_by_role("link", name="Jobs").click()
        expect(page.locator("main a[href*='/jobs/']").first).to_be_visible()
        assert [url for url in asked if not url.startswith((f"{behind}/", "blob:", "data:"))] == []


def test_what_the_proxy_says_is_shown_as_its_words(browser: Browser, behind: str, shown: dict[str, bytes]) -> None:
    with opened(browser, []) as page:
        large = jpeg("large.jpg", shown["work 401.jpg"] + b"\x00" * 2 * 2**20)
        page.goto(f"{behind}/collections/web-behind")
        page.set_input_files("#files", [large])
        said = "The proxy in front of Artseek said: 413 Request Entity Too Large."
        expect(page.locator("#progress-text")).to_contain_text(said)
        page.goto(f"{behind}/?collection={COLLECTION}")
        page.set_input_files("#image", [large])
        expect(page.locator("#results .notice")).to_contain_text(said)


def test_addresses_in_answers_lie_below_the_prefix(behind: str) -> None:
    client = Client(behind)
    assert client.document["servers"] == [{"url": f"{PREFIX}/api/v1"}]
    reply = client.call("POST /collections/{name}/images", name="web-behind", fields=[("images", ("b", picture(591)))])
    job = f"{PREFIX}/api/v1/jobs/{reply.json['job']}"
    assert (reply.status, reply.json["url"], reply.headers["Location"]) == (202, job, job)
    client.finished(reply.json["job"])


@contextmanager
def opened(browser: Browser, asked: list[str]) -> Iterator[Page]:
    """Open a page for the block; what it asks for is noted. An error tells what went wrong unseen, and the page."""
    context, unseen = browser.new_context(), list[str]()
    context.on("request", lambda request: asked.append(request.url))
    context.on("requestfailed", lambda request: unseen.append(f"{request.url} failed: {request.failure}"))
    context.on("console", lambda message: unseen.append(f"console: {message.type}: {message.text}"))
    context.on("weberror", lambda error: unseen.append(f"error: {error.error}"))
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    try:
        yield page
    except BaseException as error:
        error.add_note("\n".join([*unseen, *asked, page.url, page.locator("main").inner_text()]))
        raise
    finally:
        context.close()
