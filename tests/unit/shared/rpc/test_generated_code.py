"""The code that is generated of protocol buffers is current."""

from pathlib import Path

from scripts import protos


def test_generated_code_is_current(tmp_path: Path) -> None:
    written = protos.generate(protos.ROOT, tmp_path)
    assert Path("shared/rpc/serving/serving_pb2.py") in written
    for path in written:
        assert (tmp_path / path).read_text("utf-8") == (protos.ROOT / path).read_text("utf-8"), (
            f"{path} is not what its .proto file gives; run python -m scripts.protos"
        )
