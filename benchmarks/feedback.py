"""What marking examples does to the answers: rounds of judging by label, simulated with the embeddings of a folder.

A round looks for a labelled image, marks five of the first 24 hits, up to two that are wrong and else the first that
are right, and searches again. P@10 is measured before and after; query and marked images count in neither.

    python -m benchmarks.feedback CLASS_FOLDERS [--distractors FOLDER…] [--rounds 200] [--cache build/bench]
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.features import features
from benchmarks.simulation import Vectors
from services.query.search.relevance_feedback import moved
from shared.folders import walk

_MARKS, _WRONG, _PAGE, _K = 5, 2, 24, 10

Labels = npt.NDArray[np.str_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Round:
    """The share of right images among the next ten, before the marks and after."""

    label: str
    before: float
    after: float


def main() -> int:
    """Embed, simulate, print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classes", type=Path, help="folder with a subfolder for each class")
    parser.add_argument("--distractors", nargs="*", type=Path, default=[], help="folders of images of no class")
    parser.add_argument("--rounds", type=int, default=200, help="number of rounds, as many for each class")
    parser.add_argument("--cache", type=Path, default=Path("build/bench"), help="where embeddings are kept")
    options = parser.parse_args()
    vectors, labels = [], []
    with tempfile.TemporaryDirectory(prefix="artseek-bench-") as scratch:
        for folder in (options.classes, *options.distractors):
            found = features([folder], options.cache, Path(scratch))
            named = folder == options.classes
            sources = sorted(walk([folder], labels_from_folders=named), key=lambda source: source.path)
            if len(sources) != len(found):
                print(f"{folder}: {len(sources) - len(found)} files are no images: move them away", file=sys.stderr)
                return 1
            vectors.append(found)
            labels += [source.label or "" if named else "" for source in sources]
    print_rounds(simulate(np.concatenate(vectors), np.array(labels), rounds=options.rounds))
    return 0


def simulate(vectors: Vectors, labels: Labels, *, rounds: int, seed: int = 0) -> list[Round]:
    """Return simulated rounds in a collection of embeddings, float32 [n, dim], with their labels, "" for none, [n]."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    choice = np.random.default_rng(seed)
    classes = sorted(set(labels.tolist()) - {""})
    none = np.empty(0, np.int64)
    found = []
    for label in classes:
        members = np.flatnonzero(labels == label)
        for row in choice.choice(members, min(rounds // len(classes), len(members)), replace=False).tolist():
            first = np.setdiff1d(np.argsort(-(unit @ unit[row]), kind="stable")[: _PAGE + 1], [row], assume_unique=True)
            like, unlike = _marked(first[:_PAGE], labels, label)
            left_out = np.concatenate([[row], like, unlike])
            before = _precision(unit, labels, unit[row], none, none, left_out, label)
            found.append(Round(label, before, _precision(unit, labels, unit[row], like, unlike, left_out, label)))
    return found


def print_rounds(rounds: Sequence[Round]) -> None:
    """Print P@10 before and after, by class and over all."""
    print(f"{'class':20} {'rounds':>6} {'before':>7} {'after':>7}")
    for label in [*sorted({each.label for each in rounds}), None]:
        chosen = [each for each in rounds if label in {None, each.label}]
        before, after = np.mean([[each.before, each.after] for each in chosen], axis=0)
        print(f"{label or 'all':20} {len(chosen):6} {before:7.3f} {after:7.3f}")


def _marked(hits: Rows, labels: Labels, label: str) -> tuple[Rows, Rows]:
    """Return which of these hits, the best first, a judge marks as right and as wrong."""
    right, wrong = hits[labels[hits] == label], hits[labels[hits] != label]
    like = right[: _MARKS - min(_WRONG, len(wrong))]
    return like, wrong[: _MARKS - len(like)]


def _precision(
    unit: Vectors, labels: Labels, query: Vectors, like: Rows, unlike: Rows, left_out: Rows, label: str
) -> float:
    scores = unit @ moved(query, unit[like], unit[unlike])
    scores[left_out] = -np.inf
    return float((labels[np.argsort(-scores, kind="stable")[:_K]] == label).mean())


if __name__ == "__main__":
    sys.exit(main())
