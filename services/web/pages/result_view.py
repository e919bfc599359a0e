"""The result of a search as the search page shows it: of one collection, or of several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from shared.proof.findings import Proof
from shared.rpc.query import MODES, SearchAcrossResponse, SearchResponse, SkippedCollection
from shared.schemas.proof import ProofAnswer, proof_answer


@dataclass(frozen=True)
class QueryFile:
    """One of several files that were searched for as one query, and the address of the search without it."""

    name: str
    without: str


@dataclass(frozen=True)
class ResultView:
    """The result of a search, and what the page says of it.

    Attributes:
        response: The answer of the query service.
        proofs: What comparisons of the first hits with the query found, by the ids of the images.
        kept_until: Until when the file that was searched for is kept, in seconds since 1970; None: there is none.
        no_address: Why the search has no address: its file is not kept.
        files: The files that were searched for, where they are several.
        places: Of a search over several collections, that of each hit.
        searched: Which they are.
        skipped: Which others were not searched, and why.
        example_places: Of such a search, the collection that has each example, by its id.
    """

    response: SearchResponse
    proofs: Mapping[int, Proof] = field(default_factory=dict)
    kept_until: float | None = None
    no_address: str = ""
    files: Sequence[QueryFile] = ()
    places: Sequence[str] = ()
    searched: Sequence[str] = ()
    skipped: Sequence[SkippedCollection] = ()
    example_places: Mapping[int, str] = field(default_factory=dict)

    @property
    def same(self) -> dict[int, ProofAnswer]:
        """The hits that show the same as the query."""
        return {image_id: proof_answer(proof) for image_id, proof in self.proofs.items() if proof.same}

    @property
    def compared(self) -> int:
        """How many hits were compared with the query."""
        return len(self.proofs)


def view_across(across: SearchAcrossResponse, proofs: Mapping[int, Proof] = MappingProxyType({})) -> ResultView:
    """Return the result of a search over several collections as one of all of them together."""
    answers = [answer.found for answer in across.answers]
    exact = all(answer.mode == MODES["exact"] for answer in answers)
    response = SearchResponse(
        hits=[placed.hit for placed in across.hits],
        mode=MODES["exact" if exact else "lsh"],
        metric=answers[0].metric,
        candidates=sum(answer.candidates for answer in answers),
        collection_size=sum(answer.collection_size for answer in answers),
        windows=sum(answer.windows for answer in answers),
        timings_ms=across.timings_ms,
        model=across.model,
        model_version=across.model_version,
        grouped=across.grouped,
    )
    return ResultView(
        response,
        proofs,
        places=[placed.collection for placed in across.hits],
        searched=[answer.collection for answer in across.answers],
        skipped=list(across.skipped),
        example_places={example.id: example.collection for example in across.examples},
    )
