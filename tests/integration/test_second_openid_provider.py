"""Logging in with `oidc-provider`, a certified provider from npm, which leaves the claims to the user info.

It is there after ``npm ci --prefix tests/support/openid_provider``, which `.ci/run` does where it finds npm.
"""

import html
import re
import shutil
import subprocess
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from pydantic import SecretStr

from services.web.app import create_app
from shared.access import AccessStore, Grant
from shared.clients import connect_state
from shared.storage.object_store import ObjectStore
from tests.support.paths import ROOT
from tests.support.servers import Servers

PUBLIC = "https://archive.example"
FOLDER = ROOT / "tests" / "support" / "openid_provider"


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed, which runs the provider")
    if not (FOLDER / "node_modules" / "oidc-provider").is_dir():
        pytest.skip("the provider is not installed: npm ci --prefix tests/support/openid_provider")
    command = [node, "provider.js", f"{PUBLIC}/log-in/openid/return"]
    with subprocess.Popen(command, cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://localhost:{int(process.stdout.readline())}"
        finally:
            process.kill()


def consent(address: str, name: str) -> str:
    """Log in at the provider as a browser does, and allow all that it asks; returns where it sends the browser then."""
    with requests.Session() as session:
        answer = session.get(address, allow_redirects=False, timeout=60)
        while True:
            if answer.is_redirect:
                address = urljoin(address, answer.headers["Location"])
                if address.startswith(PUBLIC):
                    return address
                answer = session.get(address, allow_redirects=False, timeout=60)
                continue
            answer.raise_for_status()
            form = re.search(r'<form[^>]* action="([^"]+)"', answer.text)
            prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
            assert form is not None, answer.text
            assert prompt is not None, answer.text
            sent = {"prompt": prompt[1], "login": name, "password": "any"}
            address = urljoin(address, html.unescape(form[1]))
            answer = session.post(address, data=sent, allow_redirects=False, timeout=60)


def test_a_person_logs_in_with_a_provider_that_tells_groups_by_its_user_info(servers: Servers, provider: str) -> None:
    settings = servers.settings.model_copy(
        update={
            "public_url": PUBLIC,
            "group_roles": "curators=curator; staff=viewer:art",
            "oidc_issuer": provider,
            "oidc_client_id": "artseek",
            "oidc_client_secret": SecretStr("secret-of-artseek"),
        }
    )
    store = ObjectStore.from_settings(settings)
    store.ensure_bucket()
    browser = create_app(settings).test_client()
    browser.environ_base["HTTP_HOST"] = urlsplit(PUBLIC).netloc
    browser.environ_base["wsgi.url_scheme"] = "https"
    sent = browser.get("/log-in/openid?next=/jobs", base_url=PUBLIC).location
    assert "code_challenge_method=S256" in sent
    answer = browser.get(consent(sent, "ann"), base_url=PUBLIC)
    assert (answer.status_code, answer.location) == (303, "/jobs")
    account = AccessStore(store, connect_state(settings)).account("ann-of-the-museum")
    assert account.grants == (Grant("viewer", "art"),)
    assert "ann-of-the-museum" in browser.get("/account", base_url=PUBLIC).text
    browser.post("/log-out", base_url=PUBLIC)
    page = browser.get("/logged-out", base_url=PUBLIC).text
    assert f"{provider}/session/end?client_id=artseek" in html.unescape(page)
    assert browser.get("/account", base_url=PUBLIC).status_code == 303
