"""The pages of access in a browser: an admin lets somebody in, who shares a collection, on a narrow screen."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from shared.access import AccessStore, CollectionAccess, Grant
from shared.clients import connect_state
from shared.state.job_ids import new_job_id
from shared.storage.object_store import ObjectStore
from tests.browser.conftest import COLLECTION
from tests.browser.german import english_texts, expect_german
from tests.support.eventually import PATIENCE_S
from tests.support.nginx import nginx, recipe
from tests.support.processes import free_port
from tests.support.served_web import served_web
from tests.support.stack import Stack
from tests.support.web_client import Client

PASSWORD = "a long password"
LONG = "maria-theresia.von-habsburg-lothringen@kunsthistorisches-museum.example"


PEOPLE = {
    "ada": Grant("admin"),
    "carl": Grant("curator", COLLECTION),
    "vera": Grant("viewer", COLLECTION),
    "otto": Grant("viewer", "other"),
    LONG: Grant("viewer", "a-" + 61 * "b"),
}
# What is told to nobody in particular, and to each of them but the last.
PAGES = {
    "collections/{name}": "log-in 200 200 200 404",
    "collections/{name}/access": "log-in 200 403 403 404",
    "collections/{name}/links": "log-in 200 200 403 404",
    "access": "log-in 200 403 403 403",
    "audit": "log-in 200 403 403 403",
    "account": "log-in 200 200 200 200",
}
CALLS = {
    "GET collections/{name}": "401 200 200 200 404",
    "DELETE collections/{name}/images/1": "401 404 404 403 404",  # there is none
    "GET users": "401 200 403 403 403",
}


@pytest.fixture(scope="module")
def guarded(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where nginx shows those who log in a web service of its own, by TLS and below a path."""
    web = free_port()
    with nginx(tmp_path_factory.mktemp("nginx"), recipe(web), tls=True) as port:
        values = {
            "public_url": f"https://127.0.0.1:{port}/artseek",
            "trusted_proxies": "127.0.0.1",
            "web_listen": f"127.0.0.1:{web}",
        }
        settings = stack.settings.model_copy(update=values)
        accounts = AccessStore(ObjectStore.from_settings(settings), connect_state(settings))
        for name, grant in PEOPLE.items():
            accounts.add_account(name, (grant,), password=PASSWORD, by="test")
        with served_web(settings):
            yield settings.public_url
        for name in list(accounts.load().accounts):
            accounts.remove_account(name)


def narrow(browser: Browser, address: str, *, locale: str | None = None) -> Page:
    context = browser.new_context(
        viewport={"width": 390, "height": 800},
        base_url=f"{address}/",
        color_scheme="dark",
        ignore_https_errors=True,
        locale=locale,
    )
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    return page


def log_in(page: Page, name: str) -> None:
    page.goto("log-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("link", name="Account")).to_be_visible()


def fits(page: Page) -> None:
    page.wait_for_load_state("load")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, page.url


@pytest.mark.usefixtures("shown")
def test_an_admin_lets_somebody_in_who_shares_a_collection(browser: Browser, guarded: str) -> None:
    admin, grace, guest = (narrow(browser, guarded) for _ in range(3))
    log_in(admin, "ada")
    admin.goto("access")
    fits(admin)
    form = admin.locator("#add")
    form.get_by_label("Name").fill("grace")
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_label("Collection").fill(COLLECTION)
    form.get_by_role("button", name="Add an account").click()
    expect(admin.locator("h1")).to_have_text("grace")
    form = admin.locator("#roles form.inline")
    form.locator("[name=role]").select_option("curator")
    form.locator("[name=collection]").fill(COLLECTION)
    form.get_by_role("button", name="Give this role").click()
    expect(admin.locator("#roles tbody th")).to_have_text("curator")
    fits(admin)
    for path in (f"access/users/{LONG}", "audit", f"collections/{COLLECTION}/access", "account"):
        admin.goto(path)
        fits(admin)

    log_in(grace, "grace")
    grace.goto(f"collections/{COLLECTION}/links")
    grace.get_by_role("button", name="Share the whole collection").click()
    link = grace.locator("#made code").inner_text()
    fits(grace)
    guest.goto(link)
    expect(guest.locator("h1")).to_contain_text(COLLECTION)

    admin.goto("access/users/grace")
    admin.get_by_role("button", name="Take away: curator").click()
    expect(admin.locator("#roles")).to_contain_text("No role")
    guest.goto(link)
    expect(guest.locator("main")).to_contain_text("does not lead anywhere any more")
    for page in (admin, grace, guest):
        page.context.close()


@pytest.mark.usefixtures("shown")
def test_pages_and_calls_of_a_browser_by_role(browser: Browser, guarded: str) -> None:
    for place, name in enumerate((None, *PEOPLE)):
        if name == LONG:
            continue
        page = narrow(browser, guarded)
        if name is not None:
            log_in(page, name)
        for path, told in PAGES.items():
            answer = page.goto(path.format(name=COLLECTION))
            assert answer is not None
            found = "log-in" if page.url.startswith(f"{guarded}/log-in") else str(answer.status)
            assert found == told.split()[place], (name, path)
        origin = guarded.removesuffix("/artseek")
        for call, told in CALLS.items():
            method, path = call.split()
            address = f"{guarded}/api/v1/{path.format(name=COLLECTION)}"
            status = page.request.fetch(address, method=method, headers={"Origin": origin}).status
            assert str(status) == told.split()[place], (name, call)
        if name in {"carl", "vera"}:  # a viewer is shown nothing of the tray that changes images
            page.goto(f"collections/{COLLECTION}")
            page.locator(".work [data-tick]").first.check()
            page.get_by_role("button", name="Show them").click()
            expect(page.locator("#ticked li")).to_have_count(1)
            for what in ("#ticked-label", "#ticked-delete", "#ticked-confirm", "#ticked form[action$=links]"):
                expect(page.locator(what)).to_have_count(1 if name == "carl" else 0)
        cookies = page.context.cookies()
        assert len(cookies) == (name is not None)
        for cookie in cookies:
            assert (cookie["secure"], cookie["httpOnly"], cookie["path"]) == (True, True, "/artseek")
        page.context.close()


@pytest.fixture
def public_collection(stack: Stack, client: Client, shown: dict[str, bytes]) -> Iterator[str]:
    """A collection of six images that is open to everybody, until the test ends."""
    name = "web-awaited"
    client.upload(name, list(shown.items())[:6], label="shapes")
    client.wait_for(name, 6)
    access = AccessStore(ObjectStore.from_settings(stack.settings), connect_state(stack.settings))
    access.set_collection(name, CollectionAccess("public", "private"))
    yield name
    access.forget_collection(name)


def test_a_visitor_sees_a_map_as_soon_as_it_is_there(
    browser: Browser, guarded: str, stack: Stack, client: Client, public_collection: str
) -> None:
    name, state = public_collection, connect_state(stack.settings)
    job = new_job_id()
    state.jobs.create(job, name, kind="map")  # which no worker has come to
    guest = narrow(browser, guarded)
    refused: list[int] = []
    guest.on("response", lambda answer: refused.append(answer.status) if answer.status >= 400 else None)
    guest.goto(f"collections/{name}/map")
    expect(guest.locator("#map[data-awaited]")).to_contain_text("The map is being made.")
    state.jobs.forget(job)
    client.finished(client.call("POST /collections/{name}/map", name=name).json["job"])
    expect(guest.locator("#map[data-drawn='6']")).to_be_visible()
    assert refused == []
    guest.context.close()


@pytest.mark.usefixtures("shown")
def test_the_pages_of_access_are_german_for_a_german_browser(browser: Browser, guarded: str) -> None:
    page, known = narrow(browser, guarded, locale="de-DE"), english_texts()
    page.goto("log-in")
    expect_german(page, known)
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Passwort").fill(PASSWORD)
    page.get_by_role("button", name="Anmelden").click()
    expect(page.get_by_role("link", name="Konto")).to_be_visible()
    for path in (
        "access",
        f"access/users/{LONG}",
        "audit",
        f"collections/{COLLECTION}/access",
        f"collections/{COLLECTION}/links",
        "account",
    ):
        page.goto(path)
        expect_german(page, known)
    page.context.close()
