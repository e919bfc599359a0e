"""What a comparison of two pictures found."""

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from shared.proof.findings import Polygon, Proof, box_of


class ProofAnswer(TypedDict):
    """Whether two pictures show the same, and where: `inliers` of their features lie over each other.

    `box` is the part of the image that shows what the query shows: left, top, width and height in pixels of the upright
    original; `polygon` has its corners. `query_box` and `query_polygon` are the part of the query, or of image `a`,
    that the image shows. They are null and empty where the two are not the same; `reason` then says why. `agreement`
    is how alike the pictures are where they are laid over each other, -1 to 1.
    """

    same: bool
    inliers: int
    mirrored: bool
    agreement: float
    box: list[int] | None
    polygon: list[list[float]]
    query_box: list[int] | None
    query_polygon: list[list[float]]
    reason: str | None


def proof_answer(proof: Proof) -> ProofAnswer:
    """Return what a comparison found."""
    return ProofAnswer(
        same=proof.same,
        inliers=proof.inliers,
        mirrored=proof.same and proof.mirrored,
        agreement=proof.agreement,
        box=_box(proof.in_b),
        polygon=_corners(proof.in_b),
        query_box=_box(proof.in_a),
        query_polygon=_corners(proof.in_a),
        reason=proof.reason or None,
    )


def _box(polygon: Polygon) -> list[int] | None:
    return list(box_of(polygon)) if polygon else None


def _corners(polygon: Polygon) -> list[list[float]]:
    return [[x, y] for x, y in polygon]
