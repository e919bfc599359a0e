"""What a start has to make sure of: where a log-in is needed, somebody can log in."""

import logging
import os
import signal
import threading
import time
from typing import Final

from shared.access.access_store import AccessStore
from shared.access.openness import open_to_all
from shared.access.roles import Grant
from shared.clients import connect_state
from shared.errors import Invalid, Unavailable
from shared.settings import Settings
from shared.storage.object_store import ObjectStore
from shared.waits import WaitLog

FIRST_ADMIN: Final = "admin"
"""The account that is made of `ARTSEEK_ADMIN_PASSWORD_FILE`."""

_PAUSE_S: Final = 1.0
_REMEDY: Final = (
    "other machines can reach the page (ARTSEEK_WEB_LISTEN, ARTSEEK_PUBLIC_URL, ARTSEEK_TRUSTED_PROXIES), so a log-in "
    "is needed, and there is no account to log in to: add one while the page listens on 127.0.0.1 alone (`artseek "
    "users add NAME --role admin`), or name a file with a password in ARTSEEK_ADMIN_PASSWORD_FILE, which makes the "
    f"account {FIRST_ADMIN!r}; or have an OpenID provider let people in (ARTSEEK_OIDC_ISSUER); or let everybody "
    "do everything by --insecure (ARTSEEK_INSECURE=true)"
)
_log = logging.getLogger(__name__)


def ensure_way_in(settings: Settings, *, timeout_s: float = 5.0) -> None:
    """Make the first admin if a file has a password for it and there is no account; make sure that somebody can log in.

    Raises:
        Invalid: Nobody can, though a log-in is needed; or the password does not fit.
        Unavailable: A server does not answer.
        OSError: The file cannot be read.
    """
    if open_to_all(settings):
        return
    objects = ObjectStore.from_settings(settings, connections=4)
    objects.ensure_bucket()
    store = AccessStore(objects, connect_state(settings, retries=0, timeout_s=timeout_s))
    state = store.load()
    if not state.accounts and settings.admin_password_file is not None:
        password = settings.admin_password_file.read_text(encoding="utf-8").rstrip("\r\n")
        store.add_account(FIRST_ADMIN, (Grant("admin"),), password=password, by="ARTSEEK_ADMIN_PASSWORD_FILE")
        _log.info("the account %r was made: its password is that of ARTSEEK_ADMIN_PASSWORD_FILE", FIRST_ADMIN)
        return
    people = any(account.password is not None and not account.disabled for account in state.accounts.values())
    programs = any(key.expires is None or key.expires > time.time() for key in state.keys.values())
    others = settings.oidc_issuer or settings.proxy_user_header  # who let people in
    if not people and not programs and not others:
        raise Invalid(_REMEDY)


def ensure_way_in_soon(settings: Settings) -> None:
    """Check now if the servers answer; otherwise go on, and end the process if the check fails once they do.

    Raises:
        SystemExit: The check fails; the log says why.
    """
    try:
        ensure_way_in(settings, timeout_s=2.0)
    except Unavailable:
        threading.Thread(target=_check_later, args=(settings,), name="way in", daemon=True).start()
    except (Invalid, OSError) as error:
        _log.error("%s", error)
        raise SystemExit(1) from None


def _check_later(settings: Settings) -> None:
    waiting = WaitLog(_log, "the start")
    while True:
        try:
            ensure_way_in(settings)
        except Unavailable as error:
            waiting.waits(error)
            time.sleep(_PAUSE_S)
        except (Invalid, OSError) as error:
            _log.error("%s", error)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        else:
            waiting.goes_on()
            return
