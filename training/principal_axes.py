"""Principal axes of features: the weights of layers that whiten or project, which are computed and not learned."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid

_ROUNDING: Final = 1e-10
"""Where the variance along an axis is less than this share of that along the first, it is rounding errors."""


def fit_whitening(features: npt.NDArray[np.floating[Any]], dim: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Fit PCA-whitening: centre, project onto the principal axes, divide by the standard deviation along each.

    Jégou and Chum 2012, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening".

    Args:
        features: [n, channels], more than `dim` of them.
        dim: how many axes to keep, those of the largest variance.

    Returns:
        Kernel [channels, dim] and bias [dim], float32: features @ kernel + bias have mean 0 and covariance 1. They are
        the weights of a {"whiten": dim} layer.

    Raises:
        Invalid: the features vary along fewer than `dim` axes.
    """
    if features.ndim != 2 or not 0 < dim <= features.shape[1]:
        raise Invalid(f"features of shape {features.shape} cannot be whitened to {dim} dimensions")
    values = features.astype(np.float64)
    mean = values.mean(axis=0)
    _, deviations, axes = np.linalg.svd(values - mean, full_matrices=False)
    variances = deviations**2 / max(1, len(values) - 1)
    spanned = int((variances > _ROUNDING * variances[0]).sum())
    if spanned < dim:
        raise Invalid(
            f"{len(values)} features vary along {spanned} axes, expected at least {dim}; "
            "take more images or fewer dimensions"
        )
    kernel = (axes[:dim] / np.sqrt(variances[:dim, None])).T
    return kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)


def fit_projection(embeddings: npt.NDArray[np.floating[Any]], dim: int) -> npt.NDArray[np.float32]:
    """Return the principal axes of embeddings that are not centred.

    Of all projections onto `dim` axes, this one keeps the embeddings' inner products best: Eckart and Young 1936, "The
    approximation of one matrix by another of lower rank".

    Args:
        embeddings: [n, width].
        dim: how many axes to keep, at most `width`.

    Returns:
        Kernel [width, dim], float32, with orthonormal columns: the weights of a {"project": dim} layer.

    Raises:
        Invalid: there are no embeddings, or fewer dimensions than `dim`.
    """
    if embeddings.ndim != 2 or not len(embeddings) or not 0 < dim <= embeddings.shape[1]:
        raise Invalid(f"embeddings of shape {embeddings.shape} cannot be projected to {dim} dimensions")
    values = embeddings.astype(np.float64)
    count, width = values.shape
    if dim <= count < width:  # thousands of dimensions and few images: their span holds all the axes
        kernel = np.linalg.svd(values, full_matrices=False)[2][:dim].T
    else:
        _, axes = np.linalg.eigh(values.T @ values)  # by ascending eigenvalues
        kernel = axes[:, ::-1][:, :dim]
    return np.ascontiguousarray(kernel, dtype=np.float32)
