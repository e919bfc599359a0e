"""Logging in and out with a real OpenID provider, in a browser."""

from collections.abc import Iterator

import oidc_provider_mock
import pytest
from playwright.sync_api import Browser, Page, expect
from pydantic import SecretStr

from shared.access import AccessStore
from shared.clients import connect_state
from shared.storage.object_store import ObjectStore
from tests.browser.conftest import COLLECTION
from tests.support.eventually import PATIENCE_S
from tests.support.processes import free_port
from tests.support.served_web import served_web
from tests.support.stack import Stack

USERS = [
    oidc_provider_mock.User(sub="1", claims={"preferred_username": "ann", "groups": ["curators"]}),
    oidc_provider_mock.User(sub="2", claims={"preferred_username": "eve", "groups": []}),
]


@pytest.fixture(scope="module")
def guarded(stack: Stack) -> Iterator[str]:
    """Where a web service of its own shows the running system to those whom the provider lets in."""
    port = free_port()
    with oidc_provider_mock.run_server_in_thread(require_nonce=True, user_claims=USERS) as provider:
        values = {
            "public_url": f"http://127.0.0.1:{port}",
            "web_listen": f"127.0.0.1:{port}",
            "oidc_issuer": f"http://localhost:{provider.server_port}",
            "oidc_client_id": "artseek",
            "oidc_client_secret": SecretStr("secret"),
            "group_roles": f"curators=curator:{COLLECTION}",
        }
        settings = stack.settings.model_copy(update=values)
        with served_web(settings):
            yield settings.public_url
    accounts = AccessStore(ObjectStore.from_settings(settings), connect_state(settings))
    for name in accounts.load().accounts:
        accounts.remove_account(name)


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    yield page
    context.close()


def log_in(page: Page, name: str) -> None:
    page.get_by_role("link", name="Log in with localhost").click()
    page.get_by_role("button", name=name, exact=True).click()


@pytest.mark.usefixtures("shown")
def test_people_log_in_at_the_provider_see_what_is_theirs_and_log_out(visitor: Page, guarded: str) -> None:
    visitor.goto(f"{guarded}/collections/{COLLECTION}")
    expect(visitor.locator("h1")).to_have_text("Log in")
    log_in(visitor, "1")
    expect(visitor).to_have_url(f"{guarded}/collections/{COLLECTION}")
    expect(visitor.locator("h1")).to_contain_text(COLLECTION)
    visitor.goto(f"{guarded}/account")
    expect(visitor.locator("main")).to_contain_text(f"Curator of {COLLECTION}")
    visitor.get_by_role("button", name="Log out", exact=True).click()
    expect(visitor.locator("h1")).to_have_text("Log in")
    visitor.get_by_role("link", name="Log out of localhost too").click()
    expect(visitor).not_to_have_url(f"{guarded}/logged-out")
    visitor.goto(f"{guarded}/collections/{COLLECTION}")
    expect(visitor.locator("h1")).to_have_text("Log in")


def test_whoever_has_no_role_sees_nothing_that_is_private(visitor: Page, guarded: str) -> None:
    visitor.goto(f"{guarded}/collections")
    log_in(visitor, "2")
    expect(visitor.locator("h1")).to_have_text("Collections")
    expect(visitor.locator(".room")).to_have_count(0)
    answer = visitor.goto(f"{guarded}/collections/{COLLECTION}")
    assert answer is not None
    assert answer.status == 404
