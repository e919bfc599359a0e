"""Takes out of the buckets of an index what does not belong there: images that are gone, and old generations."""

from shared.index.generations import collection_prefix, generation_of_bucket
from shared.state import State
from shared.storage.catalog import EmbeddingSet


def remove_surplus(state: State, embedding_set: EmbeddingSet) -> None:
    """Remove images that no segment claims from all buckets, and buckets of generations that Redis does not know.

    An image is in a claim before it is in a bucket, and in no bucket any more when its claim goes.
    """
    index_state = state.index_states.get(embedding_set.name)
    for name, ids in state.buckets.scan(collection_prefix(embedding_set)):
        if index_state is not None and generation_of_bucket(embedding_set, name) not in index_state.generations:
            state.buckets.drop(name)
            continue
        image_ids = ids.tolist()
        holders = state.claims.holders(embedding_set.name, image_ids)
        gone = [image_id for image_id, holder in zip(image_ids, holders, strict=True) if holder is None]
        state.buckets.remove([name] * len(gone), gone)
