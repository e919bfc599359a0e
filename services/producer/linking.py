"""Links that follow their files: what a sync finds at another path is read there."""

import logging
from collections.abc import Iterable
from pathlib import Path

from shared.errors import Invalid
from shared.state import State
from shared.state.locks import LEASE_S, link_lock
from shared.storage.object_store import ObjectStore
from shared.storage.original_files import FoundLink, OriginalFiles

_log = logging.getLogger(__name__)


def relink(store: ObjectStore, state: State, files: Iterable[tuple[str, Path]], *, also_missing: bool) -> None:
    """Note files, by their digests, as those that links lead to, of the originals that are linked.

    With `also_missing`, originals that are neither stored nor linked are linked, too. A file that lies below no root,
    or is another one by now, is passed over.

    Raises:
        Unavailable: The store or the index does not answer.
    """
    originals = OriginalFiles(store)
    for digest, path in files:
        if originals.links.exists(digest) or (also_missing and not originals.is_stored(digest)):
            try:
                found = FoundLink(store, path)
            except (Invalid, OSError) as error:
                _log.warning("a file is not linked: %s", error)
                continue
            if found.digest == digest:
                with state.locks.hold(link_lock(digest), wait_s=LEASE_S + 1):
                    originals.link_file(found)
