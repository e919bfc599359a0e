"""Logging in with an OpenID provider, or by a proxy: a real provider, real servers, and what others might try."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import oidc_provider_mock
import pytest
import requests
from flask.testing import FlaskClient
from pydantic import SecretStr

from services.web.app import create_app
from shared.access import AccessStore, Grant
from shared.clients import connect_state
from shared.settings import Settings
from shared.storage.object_store import ObjectStore
from tests.support.servers import Servers

PUBLIC = "https://archive.example"
ANN = oidc_provider_mock.User(sub="1234", claims={"preferred_username": "Ann B", "groups": ["curators", "others"]})


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with oidc_provider_mock.run_server_in_thread(require_nonce=True, user_claims=[ANN]) as server:
        yield f"http://localhost:{server.server_port}"


def settings_with(servers: Servers, **values: object) -> Settings:
    return servers.settings.model_copy(
        update={"public_url": PUBLIC, "group_roles": "curators=curator:art; staff=viewer", **values}
    )


@pytest.fixture
def settings(servers: Servers, provider: str) -> Settings:
    values = {"oidc_issuer": provider, "oidc_client_id": "artseek", "oidc_client_secret": SecretStr("s")}
    return settings_with(servers, **values)


@pytest.fixture
def accounts(settings: Settings) -> AccessStore:
    store = ObjectStore.from_settings(settings)
    store.ensure_bucket()
    return AccessStore(store, connect_state(settings))


@pytest.fixture
def browser(settings: Settings) -> FlaskClient:
    return browser_of(settings)


def browser_of(settings: Settings) -> FlaskClient:
    client = create_app(settings).test_client()
    client.environ_base["HTTP_HOST"] = urlsplit(PUBLIC).netloc
    client.environ_base["wsgi.url_scheme"] = "https"
    return client


def begin(browser: FlaskClient, wanted: str = "/jobs") -> str:
    """Begin a log-in; returns where the browser is sent."""
    answer = browser.get("/log-in/openid", query_string={"next": wanted}, base_url=PUBLIC)
    assert answer.status_code == 303
    return answer.location


def consent(address: str, sub: str = ANN.sub, **form: str) -> str:
    """Log in at the provider; returns the address that it sends the browser back to."""
    answer = requests.post(address, data={"sub": sub, **form}, allow_redirects=False, timeout=60)
    assert answer.status_code == 302, answer.text
    back = answer.headers["Location"]
    assert back.startswith(f"{PUBLIC}/log-in/openid/return?")
    return back


def log_in(browser: FlaskClient, sub: str = ANN.sub) -> None:
    answer = browser.get(consent(begin(browser), sub), base_url=PUBLIC)
    assert (answer.status_code, answer.location) == (303, "/jobs")


def test_whom_the_provider_lets_in_has_an_account_with_the_roles_of_its_groups(
    browser: FlaskClient, accounts: AccessStore, settings: Settings
) -> None:
    page = browser.get("/log-in?next=/jobs", base_url=PUBLIC).text
    assert "Log in with localhost" in page
    log_in(browser)
    account = accounts.account("ann-b")
    assert (account.grants, account.password) == ((Grant("curator", "art"),), None)
    assert "ann-b" in browser.get("/account", base_url=PUBLIC).text
    cookie = browser.get_cookie("artseek_session", domain="archive.example")
    assert cookie is not None
    assert (cookie.secure, cookie.http_only, cookie.same_site) == (True, True, "Lax")
    assert browser.get_cookie("artseek_log_in", domain="archive.example", path="/log-in/openid") is None
    # A change of groups counts at the next log-in, and ends what went before.
    other = browser_of(settings)
    changed = {"preferred_username": "Renamed", "groups": ["staff"]}
    requests.put(f"{settings.oidc_issuer}/users/{ANN.sub}", json=changed, timeout=60).raise_for_status()
    log_in(other)
    assert accounts.account("ann-b").grants == (Grant("viewer"),)
    assert len(accounts.load().accounts) == 1
    assert browser.get("/account", base_url=PUBLIC).status_code == 303
    requests.put(f"{settings.oidc_issuer}/users/{ANN.sub}", json=ANN.claims, timeout=60).raise_for_status()


def test_an_answer_counts_once_and_in_the_browser_that_asked(browser: FlaskClient, settings: Settings) -> None:
    back = consent(begin(browser))
    for stranger, address in (
        (browser_of(settings), back),
        (browser, back.replace(parse_qs(urlsplit(back).query)["state"][0], "another")),
        (browser, f"{PUBLIC}/log-in/openid/return"),
    ):
        answer = stranger.get(address, base_url=PUBLIC)
        assert (answer.status_code, "log in again" in answer.text) == (400, True)
    assert browser.get(back, base_url=PUBLIC).status_code == 303
    assert browser.get(back, base_url=PUBLIC).status_code == 400


def test_whom_the_provider_refuses_is_told_why(browser: FlaskClient, accounts: AccessStore) -> None:
    address = begin(browser)
    state = parse_qs(urlsplit(address).query)["state"][0]  # which this provider forgets where it denies
    answer = browser.get(f"{consent(address, action='deny')}&state={state}", base_url=PUBLIC)
    assert (answer.status_code, "let nobody in" in answer.text) == (403, True)
    assert accounts.load().accounts == {}


def test_nobody_gets_an_account_of_somebody_else_or_one_that_is_shut_out(
    browser: FlaskClient, accounts: AccessStore
) -> None:
    accounts.add_account("ann-b", (Grant("admin"),), password="correct horse battery", by="test")
    answer = browser.get(consent(begin(browser)), base_url=PUBLIC)
    assert (answer.status_code, "somebody else" in answer.text) == (403, True)
    accounts.remove_account("ann-b")
    log_in(browser)
    accounts.set_disabled("ann-b", disabled=True)
    answer = browser.get(consent(begin(browser)), base_url=PUBLIC)
    assert (answer.status_code, "shut out" in answer.text) == (403, True)


@pytest.mark.parametrize("wanted", ["//evil.example/", "https://evil.example/", "/\\evil.example"])
def test_a_log_in_leads_to_no_other_site(browser: FlaskClient, wanted: str) -> None:
    answer = browser.get(consent(begin(browser, wanted)), base_url=PUBLIC)
    assert (answer.status_code, answer.location) == (303, "/")


def test_who_logs_out_is_shown_the_way_out_of_the_provider(browser: FlaskClient, settings: Settings) -> None:
    log_in(browser)
    answer = browser.post("/log-out", base_url=PUBLIC, headers={"Sec-Fetch-Site": "same-origin"})
    page = browser.get(answer.location, base_url=PUBLIC).text
    assert f"{settings.oidc_issuer}/oauth2/end_session?" in page
    assert browser.get("/account", base_url=PUBLIC).status_code == 303


def test_a_provider_that_is_away_is_told(servers: Servers) -> None:
    settings = settings_with(servers, oidc_issuer="http://127.0.0.1:1", oidc_client_id="artseek")
    answer = browser_of(settings).get("/log-in/openid", base_url=PUBLIC)
    assert (answer.status_code, "does not answer" in answer.text) == (503, True)


def test_a_trusted_proxy_says_who_it_is_and_nobody_else_does(servers: Servers, accounts: AccessStore) -> None:
    settings = settings_with(
        servers, trusted_proxies="10.0.0.0/8", proxy_user_header="X-User", proxy_groups_header="X-Groups"
    )
    client = browser_of(settings)

    def asked(peer: str, user: str, groups: str = "") -> int:
        headers = {"X-User": user, "X-Groups": groups}
        answer = client.get("/account", base_url=PUBLIC, headers=headers, environ_overrides={"REMOTE_ADDR": peer})
        assert answer.status_code != 200 or user.lower() in answer.text
        return answer.status_code

    assert asked("192.0.2.1", "ann") == 303  # to the log-in
    assert asked("10.1.2.3", "") == 303
    assert accounts.load().accounts == {}
    assert asked("10.1.2.3", "Ann", "staff, curators") == 200
    assert set(accounts.account("ann").grants) == {Grant("viewer"), Grant("curator", "art")}
    page = client.get(
        "/account",
        base_url=PUBLIC,
        headers={"X-User": "Ann", "X-Groups": "none"},
        environ_overrides={"REMOTE_ADDR": "10.1.2.3"},
    )
    assert "log out there" in page.text  # there is no session here to end
    assert 'action="/log-out"' not in page.text
    assert "sign-out-everywhere" not in page.text
    assert asked("10.1.2.3", "Ann", "none") == 200
    assert accounts.account("ann").grants == ()
    accounts.set_disabled("ann", disabled=True)
    assert asked("10.1.2.3", "Ann", "none") == 401
    accounts.add_account("bob", (Grant("admin"),), password="correct horse battery", by="test")
    assert asked("10.1.2.3", "bob") == 401
