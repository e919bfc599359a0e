"""Changes of a collection to another model: the state of the change, pending deletes, and images that failed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from shared.state.connection import Client, guarded
from shared.state.outcomes import Rejection
from shared.state.pieces import pieces
from shared.versioned import StoredKind

_STATE, _FAILED = StoredKind("state of a model change"), StoredKind("image that failed")
_KEPT_S = 900.0  # a change whose worker has not written for so long counts as given up


@dataclass(frozen=True)
class ModelVersion:
    """A model and its version."""

    model: str
    version: int


@dataclass(frozen=True, kw_only=True)
class ModelChangeResult:
    """What a change did, which is the result of its job.

    Attributes:
        changed: Whether the collection used another model before.
        model: The model that the collection uses now.
        version: Its version.
        dim: Components of its embeddings.
        previous: What the collection used before, if that was another model.
        images: Images that were embedded with the new model.
    """

    changed: bool
    model: str
    version: int
    dim: int
    previous: ModelVersion | None = None
    images: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        made: dict[str, Any] = {"changed": self.changed}
        if self.previous is not None:
            made |= {"from": asdict(self.previous), "images": self.images}
        return made | {"model": self.model, "version": self.version, "dim": self.dim}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the result that `to_json` wrote."""
        previous = values.get("from")
        return cls(
            changed=values["changed"],
            model=values["model"],
            version=values["version"],
            dim=values["dim"],
            previous=None if previous is None else ModelVersion(**previous),
            images=values.get("images", 0),
        )


@dataclass(frozen=True, kw_only=True)
class ModelChangeState:
    """How far a change is.

    Attributes:
        model: The model that the collection changes to.
        version: Its version.
        job: The job that asked for the change.
        resume_after: The segment after which the first passes go on; None once only the images that came last are left.
        sent: Images that this pass has sent to the embedder.
        changed_at: When the collection left the embedding set it used before, in seconds since 1970.
        previous: What the collection used before, once it has changed.
        images: Images that were embedded with the new model, once the collection has changed.
    """

    model: str
    version: int
    job: str
    resume_after: str | None = ""
    sent: int = 0
    changed_at: float | None = None
    previous: ModelVersion | None = None
    images: int = 0


class ModelChanges:
    """Reads and writes what has to be known of a change. Every call may run twice."""

    def __init__(self, client: Client) -> None:
        self._redis = client

    def get(self, collection: str) -> ModelChangeState | None:
        """Return the state of a collection's change; None if none is under way."""
        with guarded():
            kept = self._redis.get(_state_key(collection))
        if not kept:
            return None
        return _STATE.loads(kept, _state_of, place=_state_key(collection))

    def set(self, collection: str, state: ModelChangeState) -> None:
        """Keep the state of a collection's change for a quarter of an hour."""
        with guarded():
            self._redis.set(_state_key(collection), _STATE.dumps(asdict(state)), px=int(_KEPT_S * 1000))

    def forget(self, collection: str) -> None:
        """Note that no change of a collection is under way."""
        with guarded():
            self._redis.unlink(_state_key(collection))

    def add_pending_deletes(self, set_name: str, image_ids: Iterable[int]) -> None:
        """Note images that are about to be deleted from the set in use, so that they do not stay in the filled one."""
        with guarded():
            self._redis.sadd(_pending_key(set_name), *(str(image_id) for image_id in image_ids))

    def pending_deletes(self, set_name: str) -> list[int]:
        """Return the images that are still to be deleted from an embedding set that is being filled."""
        with guarded():
            return [int(image_id) for image_id in self._redis.smembers(_pending_key(set_name))]

    def remove_pending_deletes(self, set_name: str, image_ids: Sequence[int]) -> None:
        """Note that images were deleted."""
        with guarded():
            for piece in pieces(image_ids):
                self._redis.srem(_pending_key(set_name), *(str(image_id) for image_id in piece))

    def add_failed(self, set_name: str, rejections: Mapping[int, Rejection]) -> None:
        """Note images that cannot be embedded, and why."""
        if rejections:
            mapping = {str(image_id): _FAILED.dumps(asdict(rejection)) for image_id, rejection in rejections.items()}
            with guarded():
                self._redis.hset(_failed_key(set_name), mapping=mapping)

    def failed(self, set_name: str) -> dict[int, Rejection]:
        """Return the images that cannot be embedded, and why."""
        with guarded():
            found = self._redis.hgetall(_failed_key(set_name))
        return {
            int(image_id): _FAILED.loads(text, lambda values: Rejection(**values), place=_failed_key(set_name))
            for image_id, text in found.items()
        }

    def without_failed(self, set_name: str, image_ids: Sequence[int]) -> list[int]:
        """Return some images but for those that cannot be embedded."""
        with guarded():
            pipeline = self._redis.pipeline(transaction=False)
            for piece in pieces(image_ids):
                pipeline.hmget(_failed_key(set_name), [str(image_id) for image_id in piece])
            found = [text for piece in pipeline.execute() for text in piece]
        return [image_id for image_id, text in zip(image_ids, found, strict=True) if text is None]

    def count_failed(self, set_name: str) -> int:
        """Return how many images cannot be embedded."""
        with guarded():
            return int(self._redis.hlen(_failed_key(set_name)))

    def forget_failed(self, set_name: str) -> None:
        """Have all images tried again."""
        with guarded():
            self._redis.unlink(_failed_key(set_name))

    def forget_set(self, set_name: str) -> None:
        """Delete what is noted of an embedding set."""
        with guarded():
            for key in (_pending_key(set_name), _failed_key(set_name)):
                self._redis.unlink(key)


def _state_of(values: dict[str, Any]) -> ModelChangeState:
    previous = values.pop("previous")
    return ModelChangeState(**values, previous=None if previous is None else ModelVersion(**previous))


def _state_key(collection: str) -> str:
    return f"model-change:{collection}"


def _pending_key(set_name: str) -> str:
    return f"pending-deletes:{set_name}"


def _failed_key(set_name: str) -> str:
    return f"failed:{set_name}"
