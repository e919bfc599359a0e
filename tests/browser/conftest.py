"""A real browser on the running system. Every test ends with a look at what went wrong unseen."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.browser.evaluated import Report, make_report
from tests.support.eventually import PATIENCE_S
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

# The first is Chromium without a window, which takes a fifth of the CPU time.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
COLLECTION = "web-pages"

expect.set_options(timeout=1000 * PATIENCE_S)


@dataclass
class Watch:
    """What a page did beside what it showed."""

    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def note(self, message: ConsoleMessage) -> None:
        """Note what a page wrote to the console if it is an error, and where it comes from.

        Answers 503 are none: on a busy machine, pages ask again.
        """
        if message.type == "error" and "a status of 503 " not in message.text:
            self.errors.append(f"{message.text} ({message.location['url']})")

    def expect_status(self, status: int) -> None:
        """Forget that the browser noted answers with this status, which the test is about."""
        self.errors[:] = [error for error in self.errors if f"a status of {status} " not in error]


def _executable() -> str | None:
    named = os.environ.get("ARTSEEK_CHROMIUM")
    return named or next((found for name in _NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = _executable()
    if executable is None:
        reason = f"no browser: none of {', '.join(_NAMES)} is installed, and ARTSEEK_CHROMIUM names none"
        if os.environ.get("ARTSEEK_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def client(stack: Stack) -> Client:
    return Client(stack.url)


@pytest.fixture(scope="session")
def shown(client: Client) -> dict[str, bytes]:
    """The images of the collection ``web-pages``, by name; nobody changes it."""
    files = {f"work {number}.jpg": picture(number, size=(200, 150)) for number in range(400, 415)}
    client.upload(COLLECTION, list(files.items())[:8], label="shapes")
    client.upload(COLLECTION, list(files.items())[8:], label="forms")
    client.wait_for(COLLECTION, len(files))
    return files


@pytest.fixture(scope="session")
def report(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The evaluation that the pages of quality show."""
    return make_report(stack, tmp_path_factory.mktemp("evaluated"))


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def context(browser: Browser, stack: Stack, watch: Watch) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=stack.url)
    made.grant_permissions(["clipboard-read", "clipboard-write"])

    def look(request: Request) -> None:
        if not request.url.startswith((f"{stack.url}/", "blob:", "data:")):
            watch.strangers.append(request.url)

    made.on("request", look)
    made.on("console", watch.note)
    made.on("weberror", lambda error: watch.errors.append(str(error.error)))
    yield made
    made.close()
    assert watch.strangers == [], "a page asked another host"
    assert watch.errors == [], "a page wrote errors to the console"


@pytest.fixture
def page(context: BrowserContext) -> Page:
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    return page
