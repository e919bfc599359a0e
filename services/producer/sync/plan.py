"""Compares what a folder has with what a collection knows of it, and says what is to be done; it touches no server."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from services.producer.sync.scan import FoundFile, Scan
from shared.file_names import sent_name
from shared.records.paths import KnownPath, PathState


@dataclass(frozen=True)
class StoredImage:
    """An image of the collection with its labels and all its paths.

    `name` is that of its row: a path, too, unless something else is known of that. `page_of`: it is a page behind the
    first of the document whose file has this digest; it goes where that goes.
    """

    id: int
    digest: str
    name: str
    labels: tuple[str, ...]
    paths: tuple[KnownPath, ...]
    page_of: str | None = None


@dataclass(frozen=True)
class Moved:
    """A file that lies elsewhere now."""

    before: str
    after: str


@dataclass(frozen=True)
class Notes:
    """What is to be noted: of contents by digest, paths, and the labels that folders give them."""

    paths: Mapping[str, Sequence[KnownPath]]
    labels: Mapping[str, Sequence[str]]

    def without(self, others: "Notes") -> "Notes":
        """Return the notes that others do not have."""
        left = {
            digest: [path for path in paths if path not in others.paths.get(digest, ())]
            for digest, paths in self.paths.items()
        }
        labels = {digest: labels for digest, labels in self.labels.items() if digest not in others.labels}
        return Notes({digest: paths for digest, paths in left.items() if paths}, labels)

    def parts(self, size: int) -> Iterator["Notes"]:
        """Yield the notes in parts of at most so many contents."""
        digests = list(dict.fromkeys((*self.paths, *self.labels)))
        for start in range(0, len(digests), size):
            some = set(digests[start : start + size])
            yield Notes(
                {digest: paths for digest, paths in self.paths.items() if digest in some},
                {digest: labels for digest, labels in self.labels.items() if digest in some},
            )


@dataclass
class Plan:
    """What has become of the files of a folder.

    Attributes:
        to_add: A file of each content that the collection does not have.
        hidden: Known paths of files in folders that could not be listed.
        held: How many files the collection knows to be there.
    """

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    to_add: list[FoundFile] = field(default_factory=list)
    held: int = 0


class FolderComparison:
    """The files of a scan against the images of a collection."""

    def __init__(self, found: Scan, images: Iterable[StoredImage], source: str, *, with_labels: bool) -> None:
        """Compare; `source` is the folder's name in the paths of images, `with_labels`: subfolders are labels."""
        self._found, self._source, self._with_labels = found, source, with_labels
        self._images: dict[str, StoredImage] = {}
        self._pages: dict[str, list[str]] = defaultdict(list)  # digests by that of their document
        for image in images:
            if image.page_of is None:
                self._images[image.digest] = image
            else:
                self._pages[image.page_of].append(image.digest)
        self._entries: dict[str, dict[str, KnownPath]] = {}  # of this source, by digest and path
        for image in self._images.values():
            self._entries[image.digest] = {
                known_path.path: known_path for known_path in image.paths if known_path.source == source
            }
        self._changed: dict[str, dict[str, KnownPath]] = defaultdict(dict)  # by digest and path
        self.plan = self._plan()

    def _plan(self) -> Plan:
        plan = Plan()
        held: dict[str, set[str]] = defaultdict(set)  # digests by path
        for digest, entries in self._entries.items():
            for path, entry in entries.items():
                if entry.state == "present":
                    held[path].add(digest)
        plan.held = len(held)
        come = self._compare_files(plan, held)
        gone = self._compare_paths(plan, held)
        self._pair(plan, come, gone)
        added: set[str] = set()
        for file in self._found.files:
            if file.digest not in self._images and file.digest not in added:
                added.add(file.digest)
                plan.to_add.append(file)
        return plan

    def _compare_files(self, plan: Plan, held: Mapping[str, set[str]]) -> list[FoundFile]:
        """Sort the files that are there into unchanged and changed ones; returns the others."""
        come: list[FoundFile] = []
        for file in self._found.files:
            name, digests = file.source.name, held.get(file.source.name, set())
            if file.digest in digests:
                plan.unchanged.append(name)
                if self._with_labels and self._entries[file.digest][name].label != file.source.label:
                    plan.relabelled.append(name)
                    self._note(file.digest, name, "present", file.source.label)
            elif digests:
                plan.changed.append(name)
                self._note(file.digest, name, "present", file.source.label)
            else:
                come.append(file)
        return come

    def _compare_paths(self, plan: Plan, held: Mapping[str, set[str]]) -> dict[str, list[str]]:
        """Return the paths whose files are not there any more, by digest."""
        there = {file.source.name: file.digest for file in self._found.files}
        kept = {source.name for source, _ in self._found.rejected}
        kept |= {name for names in self._found.skipped.by_kind.values() for name in names}
        gone: dict[str, list[str]] = defaultdict(list)
        for path in sorted(held):
            if path in there:
                for digest in held[path] - {there[path]}:
                    self._note(digest, path, "vanished")
            elif self._found.hides(path):
                plan.hidden.append(path)
            elif path not in kept:
                for digest in held[path]:
                    gone[digest].append(path)
        return gone

    def _pair(self, plan: Plan, come: Sequence[FoundFile], gone: dict[str, list[str]]) -> None:
        """Sort files that have come and paths that are gone into moved, new and vanished ones."""
        for file in come:
            name = file.source.name
            self._note(file.digest, name, "present", file.source.label)
            if gone.get(file.digest):
                before = gone[file.digest].pop(0)
                plan.moved.append(Moved(before, name))
                self._note(file.digest, before, "gone")
            else:
                plan.new.append(name)
        for digest, paths in gone.items():
            for path in paths:
                plan.vanished.append(path)
                self._note(digest, path, "vanished")
        plan.vanished.sort()

    def _note(self, digest: str, path: str, state: PathState, label: str | None = None) -> None:
        held = self._entries.get(digest, {}).get(path)
        if held is not None and (state != "present" or not self._with_labels):
            label = held.label
        self._changed[digest][path] = KnownPath(self._source, path, state, label)

    def newly_found(self) -> list[FoundFile]:
        """Return the files that are at other paths than before, or have come, and whose content the collection has."""
        unchanged = set(self.plan.unchanged)
        return [file for file in self._found.files if file.digest in self._images and file.source.name not in unchanged]

    # What to store

    def notes(self, refused: frozenset[str] = frozenset()) -> Notes:
        """Return what is to be noted, but of contents that were refused, and of what they have come in the place of."""
        kept = self._kept(refused)
        paths = {digest: list(entries.values()) for digest, entries in kept.items()}
        whole = [digest for digest, entries in kept.items() if len(entries) == len(self._changed[digest])]
        found = {digest: self._new_labels(digest) for digest in whole} if self._with_labels else {}
        return self._with_pages(paths, {digest: labels for digest, labels in found.items() if labels is not None})

    def _with_pages(self, paths: Mapping[str, Sequence[KnownPath]], labels: Mapping[str, Sequence[str]]) -> Notes:
        """Return notes that say of all pages of a document what is said of its file."""
        return Notes(
            {each: known for digest, known in paths.items() for each in (digest, *self._pages.get(digest, ()))},
            {each: given for digest, given in labels.items() for each in (digest, *self._pages.get(digest, ()))},
        )

    def _kept(self, refused: frozenset[str]) -> dict[str, dict[str, KnownPath]]:
        """Return what has changed by digest and path, as `notes` has it."""
        instead = {file.source.name for file in self._found.files if file.digest in refused}
        kept = {
            digest: {
                path: known_path
                for path, known_path in entries.items()
                if known_path.state == "present" or path not in instead
            }
            for digest, entries in self._changed.items()
            if digest not in refused
        }
        return {digest: entries for digest, entries in kept.items() if entries}

    def _new_labels(self, digest: str) -> list[str] | None:
        """Return the labels that the folders of an image give it; None: those that it has anyway."""
        image = self._images.get(digest)
        before = [] if image is None else [known_path for known_path in image.paths if known_path.state == "present"]
        after = {(known_path.source, known_path.path): known_path for known_path in before}
        after |= {(self._source, path): known_path for path, known_path in self._changed[digest].items()}
        there = [known_path for known_path in after.values() if known_path.state == "present"]
        wanted = _labels(there)
        if image is None:
            first = next((file.source.label for file in self.plan.to_add if file.digest == digest), None)
            return None if wanted == ([first] if first else []) else wanted
        if not there:
            return None  # it keeps its last ones
        known = _labels(before) if any(known_path.label for known_path in before) else list(image.labels)
        return None if sorted(wanted) == sorted(known) else wanted

    def without_path(self, refused: frozenset[str] = frozenset()) -> list[StoredImage]:
        """Return the images of the folder that no file has any more."""
        kept, found = self._kept(refused), []
        for digest, image in self._images.items():
            after = {(known_path.source, known_path.path): known_path.state for known_path in image.paths}
            after |= {(self._source, path): known_path.state for path, known_path in kept.get(digest, {}).items()}
            lost = any(source == self._source and state == "vanished" for (source, _), state in after.items())
            if lost and "present" not in after.values() and not _has_other_name(image, (path for _, path in after)):
                found.append(image)
        return found

    def gone_notes(self, images: Iterable[StoredImage]) -> Notes:
        """Return the notes that the paths of images below the folder are gone."""
        noted: dict[str, list[KnownPath]] = {}
        for image in images:
            entries = {**self._entries[image.digest], **self._changed.get(image.digest, {})}
            noted[image.digest] = [
                KnownPath(self._source, path, "gone", known_path.label) for path, known_path in entries.items()
            ]
        return self._with_pages(noted, {})


def _has_other_name(image: StoredImage, known: Iterable[str]) -> bool:
    """Return whether an image has the name of a file of which nothing else is known: it was uploaded, or ingested."""
    return bool(image.name) and not any(image.name in {path, sent_name(path)} for path in known)


def _labels(paths: Iterable[KnownPath]) -> list[str]:
    ordered = sorted(paths, key=lambda known_path: (known_path.path, known_path.source))
    return list(dict.fromkeys(known_path.label for known_path in ordered if known_path.label))
