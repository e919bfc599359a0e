"""Logging in by a browser, for tests of what one finds then."""

import re

from flask.testing import FlaskClient

from services.web.access.browser_sessions import COOKIE

PASSWORD = "a long password"
OTHER = "another password"


def log_in(browser: FlaskClient, password: str = PASSWORD, name: str = "ann", **more: str) -> int:
    return browser.post("/log-in", data={"name": name, "password": password, **more}).status_code


def is_in(browser: FlaskClient) -> bool:
    return browser.get("/account").status_code == 200


def cookie_of(browser: FlaskClient) -> str:
    cookie = browser.get_cookie(COOKIE)
    assert cookie is not None
    return cookie.value


def token_in(page: str) -> str:
    found = re.search(r"/shared/([\w.-]+)", page)
    assert found is not None
    return found[1]
