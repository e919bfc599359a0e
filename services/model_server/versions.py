"""The versions of a model that are to be served: those that its folder has, narrowed by its version policy."""

from pathlib import Path
from typing import NamedTuple

from tensorflow_serving.config import model_server_config_pb2


class Aspired(NamedTuple):
    """The versions of a model that are to be served, by TensorFlow Serving's word for them."""

    versions: dict[int, Path]
    """The folders of the versions to serve, by version, in ascending order."""
    remark: str
    """A remark for the operator, such as that a version is missing; empty if all is well."""


def aspired_versions(model: model_server_config_pb2.ModelConfig) -> Aspired:
    """Return the versions that the model's policy asks for and its base path has.

    Each entry of the base path whose name is a whole number is a version. The policy is latest(n) (n = 1 by default),
    all, or specific(versions).

    Raises:
        OSError: the base path cannot be read.
    """
    base = Path(model.base_path)
    found = {int(entry.name): entry for entry in base.iterdir() if entry.name.isascii() and entry.name.isdigit()}
    policy = model.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            chosen = set(found)
        case "specific":
            chosen = set(policy.specific.versions)
        case _:
            chosen = set(sorted(found)[-max(1, policy.latest.num_versions) :])
    remark = ""
    if not found:
        remark = f"{base} has no version; the name of a version's folder is a number, such as 1"
    elif chosen - set(found):
        remark = f"{base} has no version {', '.join(map(str, sorted(chosen - set(found))))}, which its policy asks for"
    return Aspired({version: found[version] for version in sorted(chosen & set(found))}, remark)
