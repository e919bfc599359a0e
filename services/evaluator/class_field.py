"""The field whose values are the classes of an evaluation, as the collection has it."""

from collections.abc import Iterator
from typing import Final

from shared.errors import Invalid
from shared.evaluation.classes import Classes, class_text, classes_of
from shared.records.editing import all_images
from shared.records.filters import NONE, Criterion, RecordFilter, filter_to_json
from shared.records.model import LABEL
from shared.rpc.query import Collection, Image, QueryClient

_PAGE: Final = 1000  # images listed at a time
_MOST: Final = 10_000  # classes


class ClassField:
    """Counts and lists the images of a collection by the values of a field."""

    def __init__(self, query: QueryClient, name: str) -> None:
        self._query, self.name = query, name
        self._relevant: dict[Classes, int] = {}

    @property
    def shown(self) -> list[str]:
        """The fields that images have to come with."""
        return [] if self.name == LABEL else [self.name]

    def collection(self, name: str) -> Collection:
        """Return a collection, with the values of the field as its classes.

        Raises:
            Invalid: No image has the field, or it has too many values.
        """
        collection = self._query.collection(name)
        if self.name == LABEL:
            if not collection.classes:
                raise Invalid(f"the collection {name!r} has no labelled image: add some with --labels-from-folders")
            return collection
        (facet,) = self._query.facets(name, fields=[self.name], limit=_MOST).facets
        if not facet.values:
            raise Invalid(f"no image of the collection {name!r} has the field {self.name!r}, so it has no classes")
        if len(facet.values) == _MOST:
            raise Invalid(f"the field {self.name!r} has {_MOST:,} values or more: choose one with fewer as the class")
        found = Collection()
        found.CopyFrom(collection)
        found.classes.clear()
        found.classes.update({value.value: value.count for value in facet.values})
        found.labelled = collection.images - self._count(name, (NONE,))
        return found

    def relevant(self, collection: str, classes: Classes) -> int:
        """Return how many images have one of these classes."""
        if not classes:
            return 0
        if classes not in self._relevant:
            self._relevant[classes] = self._count(collection, classes)
        return self._relevant[classes]

    def of(self, image: Image) -> Classes:
        """Return the classes of an image that came with the field."""
        return classes_of(image, self.name)

    def images(self, collection: str, label: str, *, page: int) -> list[Image]:
        """Return a page of a thousand images of a class, with the field."""
        wanted = self._filter((label,))
        offset = page * _PAGE
        return list(self._query.images(collection, limit=_PAGE, offset=offset, filter=wanted, fields=self.shown).images)

    def texts(self, collection: str) -> Iterator[tuple[int, str]]:
        """Yield the ids of all images that have classes, and these as one text."""
        for image in all_images(self._query, collection, records=False, fields=self.shown):
            if classes := self.of(image):
                yield image.id, class_text(classes)

    def _count(self, collection: str, classes: Criterion) -> int:
        return self._query.facets(collection, filter=self._filter(classes), fields=[LABEL], limit=1).total

    def _filter(self, classes: Criterion) -> str:
        return filter_to_json(RecordFilter({self.name: classes}))
