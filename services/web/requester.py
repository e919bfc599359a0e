"""What stands for whoever sent a request, where requests are counted: the account, the key, or else the address."""

from flask import request

from services.web.access import requester
from services.web.forwarded import address_group


def requester_key() -> str:
    """Return the account that a request came with, by a session or any of its keys; or the key; or else the address."""
    found = requester()
    if found.account:
        return f"account:{found.account}"
    if found.name:
        return f"{found.kind}:{found.name}"
    return f"address:{address_group(request.remote_addr or '')}"
