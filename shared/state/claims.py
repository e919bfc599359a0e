"""Claims: which segment holds which image of an embedding set.

An image is claimed by exactly one segment before it is embedded, so that two tasks with the same image cannot both
add it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from shared.state.connection import Client, guarded
from shared.state.pieces import PIECE, hash_pieces, pieces


class Claims:
    """Claims images for segments and looks claims up. Every call may run twice."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def claim(self, set_name: str, segment: str, image_ids: Sequence[int]) -> list[str]:
        """Claim images for a segment; returns the segment that holds the claim of each, which may be another one."""
        holders: list[bytes | None] = []
        with guarded():
            for piece in pieces(image_ids):
                pipeline = self._redis.pipeline(transaction=False)
                for image_id in piece:
                    pipeline.hsetnx(claims_key(set_name), str(image_id), segment)
                pipeline.hmget(claims_key(set_name), [str(image_id) for image_id in piece])
                holders += pipeline.execute()[-1]
        return [holder.decode() if holder else "" for holder in holders]

    def take_over(self, set_name: str, segment: str, image_ids: Iterable[int]) -> None:
        """Claim images for a segment whatever segment held them: that segment was never written."""
        mapping = {str(image_id): segment for image_id in image_ids}
        if mapping:
            with guarded():
                self._redis.hset(claims_key(set_name), mapping=mapping)

    def assign(self, set_name: str, holders: Mapping[int, str]) -> None:
        """Give images to segments whatever segments held them: these are the segments that have their rows."""
        for piece in pieces(list(holders)):
            with guarded():
                self._redis.hset(claims_key(set_name), mapping={str(image_id): holders[image_id] for image_id in piece})

    def holders(self, set_name: str, image_ids: Sequence[int]) -> list[str | None]:
        """Return the segment that holds the claim of each image, None where no segment does."""
        found: list[bytes | None] = []
        with guarded():
            for piece in pieces(image_ids):
                found += self._redis.hmget(claims_key(set_name), [str(image_id) for image_id in piece])
        return [holder.decode() if holder else None for holder in found]

    def hand_over(self, set_name: str, merged: str, image_ids: Sequence[int], origins: Sequence[str]) -> list[int]:
        """Give the claims of merged segments to the segment they were merged into.

        ``origins[i]`` is the segment that ``image_ids[i]`` comes from.

        Returns:
            The images that yet another segment holds by now.
        """
        others = []
        for piece in pieces(range(len(image_ids))):
            holders = self.holders(set_name, [image_ids[place] for place in piece])
            mapping = {}
            for place, holder in zip(piece, holders, strict=True):
                if holder == origins[place]:
                    mapping[str(image_ids[place])] = merged
                elif holder not in {None, merged}:
                    others.append(image_ids[place])
            if mapping:
                with guarded():
                    self._redis.hset(claims_key(set_name), mapping=mapping)
        return others

    def release(self, set_name: str, segment: str, image_ids: Iterable[int]) -> None:
        """Give up a segment's claims on images; the claims of other segments stay."""
        self.release_held(set_name, dict.fromkeys(image_ids, segment))

    def release_held(self, set_name: str, segments: Mapping[int, str]) -> None:
        """Give up claims on images by the segments that held them; an image that another has claimed since stays."""
        for piece in pieces(list(segments)):
            holders = self.holders(set_name, piece)
            held = [image_id for image_id, holder in zip(piece, holders, strict=True) if holder == segments[image_id]]
            if held:
                with guarded():
                    self._redis.hdel(claims_key(set_name), *(str(image_id) for image_id in held))

    def count(self, set_name: str) -> int:
        """Return the number of claimed images."""
        with guarded():
            return int(self._redis.hlen(claims_key(set_name)))

    def scan(self, set_name: str) -> Iterator[dict[int, str]]:
        """Yield images and their segments, some thousands at a time; a claim that is made meanwhile may be missed."""
        for piece in hash_pieces(self._redis, claims_key(set_name), entries=PIECE):
            yield {int(image_id): holder.decode() for image_id, holder in piece.items()}

    def forget(self, set_name: str) -> None:
        """Delete all claims of an embedding set."""
        with guarded():
            self._redis.unlink(claims_key(set_name))


def claims_key(set_name: str) -> str:
    """Return the key of the claims on the images of an embedding set."""
    return f"claims:{set_name}"
