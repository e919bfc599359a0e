"""Principal axes: what they keep of features, and which features have none."""

from typing import Any

import numpy as np
import pytest

from shared.errors import Invalid
from training.principal_axes import fit_projection, fit_whitening


def test_a_projection_keeps_inner_products_as_well_as_can_be() -> None:
    rng = np.random.default_rng(6)
    flat = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 12))
    kernel = fit_projection(flat, 3)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(3), atol=1e-6)
    np.testing.assert_allclose((flat @ kernel) @ (flat @ kernel).T, flat @ flat.T, rtol=1e-4, atol=1e-3)
    values = rng.normal(size=(200, 12)) * np.arange(1, 13)
    singular = np.linalg.svd(values, compute_uv=False)
    lost = values - values @ fit_projection(values, 5) @ fit_projection(values, 5).T
    np.testing.assert_allclose(np.square(lost).sum(), np.square(singular[5:]).sum(), rtol=1e-5)


def test_whitened_features_have_unit_covariance() -> None:
    rng = np.random.default_rng(5)
    features = (rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12)) * 10 + 50).astype(np.float32)
    kernel, bias = fit_whitening(features, 5)
    assert (kernel.shape, bias.shape) == ((12, 5), (5,))
    assert kernel.dtype == bias.dtype == np.float32
    whitened = features @ kernel + bias
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(5), atol=1e-3)
    # The axes kept are those of the largest variance: what is left over is the least that five axes can leave.
    centred = features - features.mean(axis=0)
    fitted = whitened @ np.linalg.lstsq(whitened, centred, rcond=None)[0]
    values = np.linalg.eigvalsh(np.cov(features.T))
    assert ((centred - fitted) ** 2).sum() / 399 == pytest.approx(values[:-5].sum(), rel=1e-3)


@pytest.mark.parametrize(
    ("features", "dim", "message"),
    [
        (np.ones((9, 4)), 0, "cannot be whitened to 0"),
        (np.ones((9, 4)), 5, "cannot be whitened to 5"),
        (np.ones(9), 1, "cannot be whitened"),
        (np.ones((9, 4)), 1, "vary along 0 axes"),
        (np.eye(4)[:3], 3, "vary along 2 axes"),
        (np.arange(40.0).reshape(10, 4), 2, "vary along 1 axes"),
    ],
)
def test_features_that_cannot_be_whitened_are_refused(features: Any, dim: int, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        fit_whitening(features, dim)
