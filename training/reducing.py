"""Fewer dimensions for the embeddings of a network: whitening or a projection behind it, fitted to images.

Both are fitted to the images' own embeddings, which needs no classes. Whitening makes all axes count alike; a
projection keeps similarities as they are, as well as so few axes can. `training.principal_axes` computes them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from shared.errors import Invalid
from shared.folders import walk
from training.architecture import Architecture
from training.batches import batches
from training.frozen_outputs import BATCH, Floats, predict
from training.labelled_images import ImageFile, OnProgress, RefusedFile, check_images
from training.network import EMBEDDING, new_layer
from training.principal_axes import fit_projection, fit_whitening

Kind = Literal["whiten", "project"]

MOST_IMAGES = 10_000
"""Images that axes are fitted to, chosen by their contents if there are more. With more of them axes hardly change."""


def images_of(folder: Path) -> tuple[list[ImageFile], list[RefusedFile]]:
    """Return the images of a folder, each once and sorted by digest, and the files that are no images."""
    sources = list(walk([folder], labels_from_folders=False))
    files = ((source.path, 0) for source in sources)
    images, refused = check_images(files, len(sources), None) if sources else ([], [])
    distinct = {image.sha256: image for image in reversed(images)}
    return sorted(distinct.values(), key=lambda image: image.sha256)[:MOST_IMAGES], refused


def reduced(
    architecture: Architecture,
    network: keras.Model,
    kind: Kind,
    dim: int,
    images: Sequence[ImageFile],
    on_progress: OnProgress,
) -> tuple[Architecture, keras.Model]:
    """Return an architecture and a network whose embeddings are those of another, brought to `dim` dimensions.

    Args:
        architecture: That of the other network.
        network: The other network, as of `training.network.build_network`.
        kind: "whiten" or "project".
        dim: At most as many as there are.
        images: What it is fitted to.
        on_progress: Told how many images were embedded.

    Raises:
        Invalid: There are more dimensions than before, or the images are too few or too alike for so many.
    """
    smaller = replace(architecture, embedding=(*architecture.embedding, {kind: dim}))
    parts: list[Floats] = []
    for pixels in batches([image.path for image in images], architecture.input_size, batch=BATCH):
        parts.append(predict(network, pixels))
        on_progress(min(len(parts) * BATCH, len(images)), len(images))
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
    smaller_network = keras.Model(network.input, layer(network.output), name=network.name)
    layer.set_weights(weights)
    return smaller, smaller_network
