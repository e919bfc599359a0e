"""Local features are kept and sent as bytes, and only what is whole is read."""

import dataclasses

import pytest

from shared.errors import Invalid, TooNew
from shared.images.child_messages import MOST_FEATURES
from shared.proof.features import MOST_BYTES, LocalFeatures
from shared.proof.findings import Proof
from shared.proof.messages import packed_list, packed_proofs, unpacked_list, unpacked_proofs
from tests.unit.shared.proof.pictures import drawn, features

FOUND = features(drawn(1))


def test_features_come_back_as_they_were() -> None:
    back = LocalFeatures.unpack(FOUND.pack())
    assert (back.width, back.height) == (FOUND.width, FOUND.height)
    for name in ("points", "descriptors", "small"):
        assert (getattr(back, name) == getattr(FOUND, name)).all()
    assert len(FOUND.pack()) <= MOST_BYTES <= MOST_FEATURES


WHOLE = FOUND.pack()


@pytest.mark.parametrize(
    "data",
    [WHOLE[:-1], WHOLE + b"x", b"", b"x" + WHOLE, WHOLE[:100] + bytes([WHOLE[100] ^ 1]) + WHOLE[101:]],
    ids=["short", "long", "empty", "shifted", "changed"],
)
def test_damaged_features_are_refused(data: bytes) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        LocalFeatures.unpack(data)


def test_features_of_a_newer_version_are_named_so() -> None:
    data = bytearray(FOUND.pack())
    data[4] = 9
    with pytest.raises(TooNew):
        LocalFeatures.unpack(data)


def test_what_is_found_comes_back_and_nothing_else() -> None:
    proof = Proof(same=True, inliers=40, matches=50, in_a=((0.0, 1.0), (2.0, 3.0), (4.0, 5.0)), agreement=0.9)
    assert unpacked_proofs(packed_proofs([proof, proof]), 2) == [proof, proof]
    for data, expected in ((packed_proofs([proof]), 2), (b"{}", 1), (b"[1]", 1), (b"[{}]", 1), (b"\xff", 1)):
        with pytest.raises(Invalid):
            unpacked_proofs(data, expected)
    endless = dataclasses.replace(proof, in_a=((float("inf"), 0.0),))
    with pytest.raises(Invalid):
        unpacked_proofs(packed_proofs([endless]), 1)
    parts = [b"a", b"", b"bcd"]
    assert unpacked_list(packed_list(parts)) == parts
    with pytest.raises(Invalid):
        unpacked_list(packed_list(parts)[:-1])
