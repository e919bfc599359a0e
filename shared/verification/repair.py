"""Mends what a verification found, as far as it can be mended from what is there."""

import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from shared.errors import ArtseekError, Invalid, NotFound
from shared.index.bucket_surplus import remove_surplus
from shared.index.originals import Originals
from shared.messaging.worker import WorkerClients
from shared.state import Change
from shared.state.locks import LEASE_S, link_lock
from shared.storage import evaluation_layout, layout, segments
from shared.storage.catalog import EmbeddingSet
from shared.storage.original_files import OriginalFiles
from shared.verification.findings import OF_LINKS, REBUILT, TOLD_BY_REPAIR, Finding, Kind, Report

_log = logging.getLogger(__name__)

RunJob = Callable[[str, str], None]
"""Runs a job of a kind, "rebuild" or "compact", on a collection, and waits for its end."""


class Repairer:
    """Mends. Nothing is removed that something else may need: an original goes only if nothing holds it.

    Args:
        clients: The servers.
        run_job: Has the maintenance worker do what takes long.
        replica_folder: Where the query service of this machine keeps its copy of the segments, if it does: a segment
            that the store has lost is put back from there.
    """

    def __init__(self, clients: WorkerClients, *, run_job: RunJob, replica_folder: Path | None) -> None:
        self._clients, self._run_job, self._replica_folder = clients, run_job, replica_folder
        self._store, self._state, self._catalog = clients.store, clients.state, clients.catalog

    def repair(self, report: Report) -> dict[str, frozenset[str]]:
        """Mend what can be; a verification tells afterwards what was.

        Returns:
            What of each collection could not be mended, of the kinds `TOLD_BY_REPAIR`: segments and digests.

        Raises:
            Unavailable: A server does not answer.
        """
        by_collection: defaultdict[str | None, dict[Kind, Finding]] = defaultdict(dict)
        for finding in report.findings:
            by_collection[finding.collection][finding.kind] = finding
        lost: dict[str, frozenset[str]] = {}
        for collection, found in by_collection.items():
            if collection is not None:
                lost[collection] = self._repair_collection(collection, found)
        loose = by_collection.get(None, {})
        if "original-unheld" in loose:
            Originals(self._clients, self._clients.queue).delete_unheld(sorted(loose["original-unheld"].keys))
        if "evaluation-leftover" in loose:
            for job in loose["evaluation-leftover"].keys:
                for prefix in (evaluation_layout.evaluating_prefix(job), evaluation_layout.duplicating_prefix(job)):
                    self._store.delete([item.key for item in self._store.list(prefix)])
        return lost

    def _repair_collection(self, collection: str, found: dict[Kind, Finding]) -> frozenset[str]:
        """Mend a collection; returns what could not be mended, as `repair` does."""
        if "manifest-missing" in found:
            self._restore_manifest(collection, found["manifest-missing"].keys)
        try:
            active = self._catalog.get(collection)
        except (NotFound, Invalid) as error:
            _log.error("%s is left as it is: %s", collection, error)
            return frozenset(key for kind in TOLD_BY_REPAIR & found.keys() for key in found[kind].keys)
        wanted = {
            segment
            for kind in ("segment-damaged", "segment-missing")
            for segment in (found[kind].keys if kind in found else ())
        }
        restored = {segment for segment in wanted if self._restore_segment(active, segment)}
        if "tombstone-without-segment" in found:
            keys = (key.split("/") for key in found["tombstone-without-segment"].keys)
            # What is deleted in a segment that was put back, or may come back from a backup, stays deleted.
            rows = [(segment, int(image_id)) for segment, image_id in keys if segment not in wanted]
            self._catalog.remove_tombstones(active.name, rows)
        if "merge-unfinished" in found:
            self._run("compact", collection)
        if restored or "manifest-missing" in found or found.keys() & REBUILT:
            self._run("rebuild", collection)
        left = set(found["original-damaged"].keys) if "original-damaged" in found else set()
        for kind in OF_LINKS & found.keys():
            left |= {digest for digest in found[kind].keys if not self._relink(digest)}
        if "bucket-surplus" in found:
            remove_surplus(self._state, active)
        if "replica-differs" in found or restored:
            self._state.changes.announce(Change(active.name, "rebuilt"))
        return frozenset(wanted - restored | left)

    def _relink(self, digest: str) -> bool:
        """Have a link lead to a file that has its content, and forget those that have not; returns whether one has."""
        originals = OriginalFiles(self._store)
        with self._state.locks.hold(link_lock(digest), wait_s=LEASE_S + 1):
            link = originals.links.get(digest)
            files = [] if link is None else link.files
            whole = [file for file in files if link and originals.state(link, file, read=True) == "whole"]
            if link is not None and whole:
                originals.links.reorder(link, whole)
                _log.warning("a linked original is read from %s now", whole[0].path)
        return bool(whole)

    def _run(self, kind: str, collection: str) -> None:
        try:
            self._run_job(kind, collection)
        except ArtseekError as error:
            _log.error("%s: the %s failed: %s", collection, kind, error)

    def _restore_segment(self, active: EmbeddingSet, segment: str) -> bool:
        """Put a segment back into the store from the query service's copy; returns whether there was a whole one."""
        if self._replica_folder is None:
            return False
        path = self._replica_folder / f"{active.collection}-{active.tag}" / f"{segment}.arrow"
        try:
            data = path.read_bytes()
            segments.check_model(segments.unpack(data, verify=True), model=active.model, version=active.version)
        except (OSError, Invalid):
            return False
        self._store.put(layout.segment_key(active.name, segment), data)
        _log.warning("%s: the segment %s is put back from the query service's copy", active.collection, segment)
        return True

    def _restore_manifest(self, collection: str, set_names: Iterable[str]) -> None:
        """Write the manifest of a collection anew from its segments, if its originals are there.

        A segment whose originals are gone is what a late batch left of a collection that was dropped.
        """
        for set_name in sorted(set_names, key=layout.number_of, reverse=True):
            manifest = self._manifest_of(set_name)
            if manifest is not None:
                self._catalog.put_manifest(manifest)
                self._state.changes.announce(Change(collection, "collection"))
                _log.warning("%s: its manifest is written anew from its segments", collection)
                return

    def _manifest_of(self, set_name: str) -> EmbeddingSet | None:
        added: list[float] = []
        missing = total = 0
        identity: tuple[str, int, int] | None = None
        for segment in self._catalog.segments(set_name):
            with suppress(Invalid, NotFound):
                rows = segments.unpack(self._store.get(layout.segment_key(set_name, segment)), verify=True)
                identity = segments.model_of(rows)
                for row in range(len(rows)):
                    entry = segments.entry_of(rows, row)
                    added.append(entry.added)
                    missing += not OriginalFiles(self._store).exists(entry.digest)
                    total += 1
        if identity is None or 2 * missing > total:
            return None
        model, version, dim = identity
        name, number = layout.collection_of(set_name), layout.number_of(set_name)
        return EmbeddingSet(name, secrets.token_hex(4), model, version, dim, min(added), number)
