"""The messages of answers: what was found, and what collections are."""

from services.query.replica.mapped_segment import MappedSegment
from services.query.replica.replica import Replica
from services.query.search.ranking import Hit
from services.query.search.search_query import SearchResult
from shared.rpc.query import MODES
from shared.rpc.query import query_pb2 as messages


def fill_answer(
    message: messages.SearchResponse, result: SearchResult, replica: Replica, metric: messages.Metric.ValueType
) -> None:
    """Write into an empty message how a search was answered, without its hits."""
    message.mode = MODES[result.mode]
    message.metric = metric
    message.candidates = result.candidates
    message.collection_size = replica.view.images
    message.timings_ms.update(result.timings_ms)
    message.model = replica.embedding_set.model
    message.model_version = replica.embedding_set.version
    message.generation = result.generation
    message.probed_buckets = result.probed_buckets
    message.truncated_buckets = result.truncated_buckets
    message.seen = result.seen
    message.index_fault = result.index_fault or ""
    message.windows = result.windows


def fill_hit(message: messages.Hit, hit: Hit) -> None:
    """Write a hit into an empty message: in its place, since messages that are put into others are copied."""
    message.score, message.distance = hit.score, hit.distance
    if hit.region is not None:
        box = message.region
        box.x, box.y, box.width, box.height = hit.region
        box.SetInParent()  # also if all of them are 0
    fill_image(message.image, hit.segment, hit.row)


def fill_image(message: messages.Image, segment: MappedSegment, row: int) -> None:
    """Write the entry of an image into an empty message."""
    columns = segment.columns
    message.id = columns.ids.item(row)
    message.digest = columns.digest(row)
    message.name = columns.names[row]
    message.size = columns.sizes.item(row)
    message.media_type = columns.media_types[row]
    message.width = columns.widths.item(row)
    message.height = columns.heights.item(row)
    message.added = columns.added.item(row)
    if label := segment.label(row):
        message.label = label
        message.labels.append(label)
    if flags := columns.flags(row):
        message.flags.extend(flags)
    if (page := columns.document(row)) is not None:
        document = message.document
        document.id, document.digest, document.page, document.pages = page.id, page.document, page.page, page.pages


def image_message(segment: MappedSegment, row: int) -> messages.Image:
    """Return the entry of an image."""
    message = messages.Image()
    fill_image(message, segment, row)
    return message


def collection_message(replica: Replica, filling: Replica | None) -> messages.Collection:
    """Return a collection; `filling` is the replica of the embedding set that it changes to."""
    manifest, counts, generation = replica.embedding_set, replica.view.counts, replica.generation
    return messages.Collection(
        name=manifest.collection,
        images=counts.images,
        labelled=counts.classes.total(),
        classes=counts.classes,
        model=manifest.model,
        model_version=manifest.version,
        dim=manifest.dim,
        generation=generation.number if generation else 0,
        created=manifest.created,
        bytes=counts.bytes,
        damaged=replica.damaged,
        index_fault=replica.index_fault or "",
        change=None
        if filling is None
        else messages.Change(
            model=filling.embedding_set.model, model_version=filling.embedding_set.version, images=filling.view.images
        ),
    )
