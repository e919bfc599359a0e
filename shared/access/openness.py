"""Whether everybody who reaches the page may do everything."""

from shared.addresses import host_of, is_loopback
from shared.settings import Settings


def open_to_all(settings: Settings) -> bool:
    """Return whether no log-in is needed.

    That holds on one's own machine: the page listens on loopback, and no proxy leads others to it, of which a public
    address or a trusted proxy tells. It holds elsewhere only if `insecure` says so.
    """
    if settings.insecure:
        return True
    return is_loopback(host_of(settings.web_listen)) and not settings.public_url and not settings.trusted_proxies
