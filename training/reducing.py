"""Fewer dimensions for a network that is there: whitening or a projection, fitted to images, behind what it makes.

Both are fitted to the images' own embeddings, which needs no classes. Whitening makes all axes count alike; a
projection keeps similarities as they are, as well as so few axes can. `training.principal_axes` computes them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from shared.errors import Invalid
from shared.folders import walk
from training.architecture import Architecture
from training.frozen import BATCH, Floats, forward
from training.labelled import Picture, Refused, look_at
from training.network import EMBEDDING, new_layer
from training.pictures import batches
from training.principal_axes import fit_projection, fit_whitening

Kind = Literal["whiten", "project"]

MOST = 10_000
"""Images that are looked at, drawn by their contents if there are more: axes hardly change with more of them."""


def pictures_of(folder: Path) -> tuple[list[Picture], list[Refused]]:
    """Return the images of a folder, each once, at most `MOST`, sorted by content; and the files that are no images."""
    sources = list(walk([folder], labels_from_folders=False))
    pictures, refused = look_at(((one.path, 0) for one in sources), len(sources), None) if sources else ([], [])
    kept = {one.sha256: one for one in reversed(pictures)}
    return sorted(kept.values(), key=lambda one: one.sha256)[:MOST], refused


def reduced(
    architecture: Architecture,
    network: keras.Model,
    kind: Kind,
    dim: int,
    pictures: Sequence[Picture],
    tell: Callable[[int, int], None],
) -> tuple[Architecture, keras.Model]:
    """Return an architecture and its network, whose embedding has `dim` dimensions made of those of another.

    Args:
        architecture: What the network is built of.
        network: As of `training.network.build_network`.
        kind: "whiten" or "project".
        dim: At most as many as there are.
        pictures: Images that it is fitted to.
        tell: Is told how many were embedded, and how many there are.

    Raises:
        Invalid: There are more dimensions than before, or the images are too few or too alike for so many.
    """
    made = replace(architecture, embedding=(*architecture.embedding, {kind: dim}))
    parts: list[Floats] = []
    for pixels in batches([one.path for one in pictures], architecture.input_size, batch=BATCH):
        parts.append(forward(network, pixels))
        tell(min(len(parts) * BATCH, len(pictures)), len(pictures))
    embeddings = np.concatenate([*parts, np.empty((0, architecture.dim), np.float32)])
    if len(embeddings) < dim:
        raise Invalid(f"there are {len(embeddings)} images for {dim} dimensions; take more images or fewer dimensions")
    weights: Sequence[Any]
    if kind == "whiten":
        weights = fit_whitening(embeddings, dim)
    else:
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True) if architecture.normalised else 1
        weights = [fit_projection(embeddings / np.maximum(lengths, np.finfo(np.float32).tiny), dim)]
    layer = new_layer({kind: dim}, f"{EMBEDDING}_{len(architecture.embedding)}")
    grown = keras.Model(network.input, layer(network.output), name=network.name)
    layer.set_weights(weights)
    return made, grown
