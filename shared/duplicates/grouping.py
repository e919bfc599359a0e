"""Groups of images, in each of which every pair is verified: cliques, never chains of pairs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from shared.duplicates.pairs import Pair, ordered


def groups_of(pairs: Sequence[Pair]) -> list[list[int]]:
    """Return groups that hold every pair, the largest first, their ids in order.

    The strongest pair that no group holds yet begins a group, which grows while an image is a duplicate of all its
    members. A picture and two crops of it that share nothing make two groups, and the picture is in both: nobody has
    seen that the crops show the same.
    """
    neighbours = _neighbours(pairs)
    strength = {pair.ids: pair.agreement for pair in pairs}
    held: set[tuple[int, int]] = set()
    groups: list[list[int]] = []
    for pair in sorted(pairs, key=lambda pair: (-pair.agreement, pair.ids)):
        if pair.ids in held:
            continue
        group = [pair.a, pair.b]
        free = neighbours[pair.a] & neighbours[pair.b]
        while free:
            new = max(
                free, key=lambda image_id: (min(strength[ordered(image_id, other)] for other in group), -image_id)
            )
            group.append(new)
            free &= neighbours[new]
        held.update(ordered(image_id, other) for place, image_id in enumerate(group) for other in group[:place])
        groups.append(sorted(group))
    return sorted(groups, key=lambda group: (-len(group), group))


def missing_pairs(pairs: Iterable[Pair], known: set[tuple[int, int]], *, most: int) -> list[tuple[int, int]]:
    """Return pairs that nobody compared, of images with a duplicate in common; of at most `most` duplicates of each."""
    found: set[tuple[int, int]] = set()
    for others in _neighbours(pairs).values():
        some = sorted(others)[:most]
        for place, image_id in enumerate(some):
            found.update(ids for other in some[:place] if (ids := ordered(image_id, other)) not in known)
    return sorted(found)


def _neighbours(pairs: Iterable[Pair]) -> dict[int, set[int]]:
    neighbours: dict[int, set[int]] = defaultdict(set)
    for pair in pairs:
        neighbours[pair.a].add(pair.b)
        neighbours[pair.b].add(pair.a)
    return neighbours
