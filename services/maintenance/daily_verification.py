"""The daily verification: all but buckets and the contents of originals; pages and metrics show what it finds."""

import logging

from shared.clients import Clients
from shared.rpc.query.connecting import connect_query
from shared.settings import Settings
from shared.verification.findings import Report
from shared.verification.verifier import QUICK, Verifier

_log = logging.getLogger(__name__)


class DailyVerification:
    """Verifies all but buckets and the contents of originals."""

    def __init__(self, clients: Clients, settings: Settings) -> None:
        self._clients, self._settings = clients, settings

    def verify(self) -> Report:
        """Verify, and keep what is found.

        Raises:
            Unavailable: A server does not answer.
        """
        with connect_query(self._settings) as query:
            report = Verifier(self._clients, query=query).verify(QUICK)
        self._clients.state.verifications.set(report.damage())
        for finding in report.findings:
            found = finding.to_json()
            _log.error("%s: %d × %s: %s", finding.collection or "store", found["count"], finding.kind, found["meaning"])
        return report
