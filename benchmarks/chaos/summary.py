"""What a run did and found, in words."""

import re
from collections import Counter
from pathlib import Path

from benchmarks.chaos.journal import Journal
from benchmarks.chaos.model import Model

_ERROR = re.compile(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Unavailable|Warning|Exit)?\b.*")


def traces(folder: Path) -> dict[str, int]:
    """Return the last lines of the stack traces in the logs of a folder, and how often each is there."""
    found: Counter[str] = Counter()
    for log in sorted(folder.iterdir()):
        is_inside = False
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.endswith("Traceback (most recent call last):"):
                is_inside = True
            elif is_inside and _ERROR.match(line):
                found[f"{log.stem}: {line[:160]}"] += 1
                is_inside = False
    return dict(found)


def print_summary(journal: Journal, model: Model, found_traces: dict[str, int], *, seed: int) -> None:
    """Print the counts, and with violations the last events."""
    entries = model.entries()
    known = sum(not entry.retired for entry in entries)
    doubtful = len(entries) - known
    print(f"seed {seed}; {len(entries)} images, {known} of them known and {doubtful} in doubt until the end")
    for title, values in journal.to_json().items():
        if isinstance(values, dict) and values:
            print(f"\n{title.replace('_', ' ')}")
            for name, value in values.items():
                print(f"  {name:<44} {value}")
    if found_traces:
        print("\nstack traces in the logs")
        for name, count in found_traces.items():
            print(f"  {count:>4} × {name}")
    if journal.violations:
        print("\nlast events")
        for event in journal.events():
            print(f"  {event}")
        print(f"\n{len(journal.violations)} violations; seed {seed}")
        for text in journal.violations:
            print(f"  {text}")
    else:
        print("\nno violation")
