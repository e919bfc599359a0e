"""Every kind of key that the code writes is somebody's to write."""

import re
from fnmatch import fnmatchcase

from local.rights import SERVICES
from tests.support.paths import ROOT

_NAMED = re.compile(r'(?:return f|_(?:KEY|VERSION|USES|ALL|UNFINISHED|TALLY) = )"([a-z][a-z-]*:?)')
_MAINTENANCE_ALONE = {"verification"}
_FIELDS = {"missed:", "resent:"}  # of a hash, not keys
_FOLDER = re.compile(r'f?"([a-z-]+/)')


def test_every_kind_of_key_can_be_written_by_a_service_that_is_not_the_maintenance_worker() -> None:
    """One that is missing here would be refused in the running system alone."""
    files = [*(ROOT / "shared" / "state").glob("*.py"), ROOT / "shared" / "health" / "heartbeat.py"]
    kinds = {kind for file in files for kind in _NAMED.findall(file.read_text("utf-8"))}
    assert {"claims:", "session:", "changes", "heartbeats"} <= kinds
    patterns = [key for service, rights in SERVICES.items() if service != "maintenance" for key in rights.keys]
    forgotten = {
        kind
        for kind in kinds - _MAINTENANCE_ALONE - _FIELDS
        if not any(fnmatchcase(f"{kind}x" if kind.endswith(":") else kind, pattern) for pattern in patterns)
    }
    assert forgotten == set(), "add these to local/rights.py, for the service that writes them"


def test_every_kind_of_object_but_those_of_access_can_be_read_by_the_services_that_work_with_images() -> None:
    folders, of_access = (
        set(_FOLDER.findall((ROOT / "shared" / "storage" / name).read_text("utf-8")))
        for name in ("layout.py", "access_layout.py")
    )
    assert {"images/", "tombstones/"} <= folders
    assert {"access/", "audit/"} <= of_access
    folders -= {"kept-queries/", "maps/"}  # what people searched for, and maps, are for the page alone
    for service in ("embedder", "indexer", "evaluator"):
        read = set(SERVICES[service].reads)
        assert folders <= read, "add these to local/rights.py"
        assert not of_access & read
