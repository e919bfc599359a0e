"""What happened in a run: counts for the summary, and the last events for whoever looks for a fault."""

import threading
import time
from collections import Counter, deque

_KEPT = 500
_EXAMPLES = 50


class Journal:
    """Takes events from all threads.

    Attributes:
        operations: How often an operation ended in a way, by (operation, way).
        disturbances: How often something was disturbed, by name.
        searches: How often a search was answered with a status.
        skipped: What was not done here, and why.
        refusals: Codes with which images were rejected.
        violations: What must not happen and did.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._events: deque[str] = deque(maxlen=_KEPT)
        self.operations: Counter[tuple[str, str]] = Counter()
        self.disturbances: Counter[str] = Counter()
        self.searches: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self.violations: list[str] = []
        self._longest: dict[str, float] = {}

    def note(self, text: str) -> None:
        """Keep an event."""
        line = f"{time.monotonic() - self._began:8.2f} {text}"
        with self._lock:
            self._events.append(line)
        if self._verbose:
            print(line, flush=True)

    def operation(self, name: str, way: str, detail: str = "") -> None:
        """Count an operation that ended."""
        with self._lock:
            self.operations[name, way] += 1
        self.note(f"{name}: {way} {detail}".rstrip())

    def disturbance(self, name: str, detail: str = "") -> None:
        """Count a disturbance that begins."""
        with self._lock:
            self.disturbances[name] += 1
        self.note(f"! {name} {detail}".rstrip())

    def search(self, status: str, seconds: float) -> None:
        """Count a search that was answered."""
        with self._lock:
            self.searches[status] += 1
        self.waited("search", seconds)

    def refusal(self, code: str, reason: str) -> None:
        """Count an image that was rejected."""
        with self._lock:
            self.refusals[code] += 1
        self.note(f"rejected ({code}): {reason}")

    def skip(self, name: str, reason: str) -> None:
        """Keep that something is not done on this machine."""
        if name not in self.skipped:
            self.skipped[name] = reason
            self.note(f"skipped: {name}: {reason}")

    def waited(self, what: str, seconds: float) -> None:
        """Keep the longest wait for something."""
        with self._lock:
            self._longest[what] = max(self._longest.get(what, 0.0), seconds)

    def violation(self, text: str) -> None:
        """Keep what must not happen."""
        with self._lock:
            self.violations.append(text)
        self.note(f"VIOLATION {text}")

    def events(self) -> list[str]:
        """Return the last events, the oldest first."""
        with self._lock:
            return list(self._events)

    @property
    def has_answers(self) -> bool:
        """Whether an operation has been done and a search answered: without, nothing can be wrong."""
        with self._lock:
            return self.searches["200"] > 0 and any(way == "done" for _, way in self.operations)

    def to_json(self) -> dict[str, object]:
        """Return the counts as JSON values."""
        with self._lock:
            return {
                "operations": {f"{name}: {way}": count for (name, way), count in sorted(self.operations.items())},
                "disturbances": dict(sorted(self.disturbances.items())),
                "searches": dict(sorted(self.searches.items())),
                "refusals": dict(sorted(self.refusals.items())),
                "skipped": dict(self.skipped),
                "longest_wait_s": {what: round(seconds, 2) for what, seconds in sorted(self._longest.items())},
                "violations": self.violations[:_EXAMPLES],
            }
