"""Learning an embedding for search: classes drawn together, and what the frozen backbone knew of everything else kept.

A network that learns its classes alone forgets what tells them from other things, and a search in a mixed collection
drowns. So the backbone stays as it is, and the head on its features learns two things at once:

- The images of a class are to be near each other: supervised contrastive loss (Khosla et al. 2020,
  https://arxiv.org/abs/2004.11362), with all background images as one more class.
- Any two images are to be as similar as their frozen features are: relational distillation (after Park et al. 2019,
  https://arxiv.org/abs/1904.05068).

Several such heads, each drawn anew, err in different places. They learn side by side, and a projection brings them
together into few dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from training.architecture import Architecture
from training.classification import ClassificationReport
from training.fitting import EpochMetrics, Fitting, make_deterministic, seed_dropout
from training.frozen_outputs import Floats, OnProgress, Stored, stored_outputs
from training.labelled_images import ImageFile, TrainingData
from training.network import EMBEDDING, build_network, set_standardisation
from training.pretrained import Weights
from training.principal_axes import fit_projection
from training.recipes import SearchRecipe
from training.runs import Run
from training.search_scores import K, SearchScores, nearest_neighbour_scores

_EMBEDDED_AT_ONCE = 1024  # images
_DEVIATION_ADDED = 1e-3  # to the deviation of a feature: one that hardly varies must not count for much

# The learning rate by step: it rises for a share of all steps, and begins at a share of the highest.
_WARMUP_SHARE = 0.3
_FIRST_RATE = 1 / 25

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrainedForSearch:
    """The outcome of a run.

    Attributes:
        network: From images, float32 [n, size, size, 3] RGB 0 to 255, to embeddings, float32 [n, dim], not normalised.
        architecture: The network's.
        history: Loss, and P@10 of the validation images before any projection, of each epoch.
        report: Each validation image's class told by its nearest training images.
        scores: Of searches for the validation images among the training images.
        scores_with_background: The same among the background images that were held back as well; None without any.
    """

    network: keras.Model
    architecture: Architecture
    history: list[EpochMetrics]
    report: ClassificationReport
    scores: SearchScores
    scores_with_background: SearchScores | None


@dataclass(frozen=True, eq=False)
class _Features:
    """What the frozen backbone makes of images, pooled: [images, channels].

    Attributes:
        views: Of the images to learn from, as they are, and then as often as the recipe augments them.
        labels: The classes of those; background images are one more class.
        validation: Of the validation images.
        held_back: Of the background images that are held back; None without any.
    """

    views: list[Stored]
    labels: Labels
    validation: Stored
    held_back: Stored | None


class _Learner(keras.Model):  # type: ignore[misc]
    """The head as it is fitted: from features and their originals to embeddings of length 1, heads side by side."""

    def __init__(self, head: keras.Model, recipe: SearchRecipe) -> None:
        super().__init__(name="learner")
        self.head, self._recipe = head, recipe

    def call(self, inputs: Any, training: Any = None) -> Any:
        return self.head(inputs[0], training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,  # noqa: ARG002 -- Keras passes it
        training: Any = None,  # noqa: ARG002
    ) -> Any:
        ops, recipe = keras.ops, self._recipe
        others = 1 - ops.eye(ops.shape(y_pred)[0])
        same_class = ops.cast(ops.equal(y[:, None], y[None, :]), "float32") * others
        originals = _unit(self.head.get_layer(f"{EMBEDDING}_0")(x[1]))
        original_similarity = ops.matmul(originals, ops.transpose(originals))
        loss = 0.0
        for head in ops.split(y_pred, recipe.heads, axis=1):  # each learns as if it were alone
            embeddings = _unit(head)
            similarity = ops.matmul(embeddings, ops.transpose(embeddings))
            logits = similarity / recipe.temperature - 1e9 * (1 - others)
            log_shares = logits - ops.logsumexp(logits, axis=1, keepdims=True)
            contrast = -ops.mean(ops.sum(log_shares * same_class, axis=1) / ops.maximum(ops.sum(same_class, axis=1), 1))
            changed = ops.mean(ops.square(similarity - original_similarity))
            loss += recipe.contrast * contrast + recipe.keep * changed
        return loss / recipe.heads


def fine_tune(
    run: Run,
    recipe: SearchRecipe,
    weights: Weights,
    data: TrainingData,
    *,
    size: int,
    seed: int,
    on_progress: OnProgress,
) -> TrainedForSearch:
    """Train, or go on training, and judge by the validation images.

    Args:
        run: Where what is computed is kept.
        recipe: How to train.
        weights: What the backbone has.
        data: The images.
        size: Side of the images in pixels.
        seed: Of all that is drawn.
        on_progress: Told how much is done.
    """
    make_deterministic()
    architecture = Architecture(recipe.backbone, size, size, recipe.pooling, recipe.head)
    keras.utils.set_random_seed(seed)
    network = build_network(architecture, weights)
    pooled = network.get_layer("pooling").output
    head = keras.Model(pooled, network.get_layer(f"{EMBEDDING}_{recipe.learned - 1}").output)
    features = _features(run, recipe, keras.Model(network.input, pooled), data, size, seed, on_progress)
    set_standardisation(network, *_mean_and_deviation(features.views[0]))
    learner = _new_learner(head, recipe, len(features.labels))
    fitting = Fitting(learner, lambda _new, _best: True)  # the learning rate ends at nothing: the last is the best
    fitting.restore(run)
    while len(fitting.history) < recipe.epochs:
        epoch = len(fitting.history)
        loss = _run_epoch(learner, recipe, features, epoch, seed, on_progress)
        fitting.end_epoch({"loss": loss, **_validation_metrics(learner, features, data)})
        fitting.save(run)
    fitting.take_best()
    if recipe.projected is not None:
        axes = fit_projection(_embed(head, features.views[0]), recipe.projected)
        network.get_layer(f"{EMBEDDING}_{recipe.learned}").set_weights([axes])
    scored = _scored(keras.Model(pooled, network.output), features, data)
    return TrainedForSearch(network, architecture, fitting.history, *scored)


def _features(
    run: Run,
    recipe: SearchRecipe,
    frozen: keras.Model,
    data: TrainingData,
    size: int,
    seed: int,
    on_progress: OnProgress,
) -> _Features:
    def stored(name: str, images: Sequence[ImageFile], view: int = 0) -> Stored:
        seeds = [[seed, view, place] for place in range(len(images))] if view else None
        paths = [image.path for image in images]
        return stored_outputs(run, name, frozen, paths, size, on_progress, seeds=seeds)

    training, background = data.training, data.background
    validation = stored("validation", data.validation.images)
    held_back = stored("background", data.held_back) if data.held_back else None
    images = [*training.images, *background]
    views = [stored(f"training, view {view}" if view else "training", images, view) for view in range(recipe.views + 1)]
    labels = np.concatenate([training.labels, np.full(len(background), len(training.classes))])
    return _Features(views, labels, validation, held_back)


def _new_learner(head: keras.Model, recipe: SearchRecipe, images: int) -> _Learner:
    """Return what is fitted: by AdamW, whose learning rate rises and then falls to nothing over all epochs.

    After Smith and Topin 2019, https://arxiv.org/abs/1708.07120.
    """
    learner = _Learner(head, recipe)
    steps = recipe.epochs * len(_steps(np.arange(images), recipe.batch))
    warmup = max(1, round(_WARMUP_SHARE * steps))
    rate = keras.optimizers.schedules.CosineDecay(
        _FIRST_RATE * recipe.learning_rate,
        max(1, steps - warmup),
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup,
    )
    learner.compile(optimizer=keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay))
    width = head.input_shape[-1]
    learner.build([(None, width), (None, width)])
    learner.optimizer.build(learner.trainable_variables)
    return learner


def _run_epoch(
    learner: _Learner, recipe: SearchRecipe, features: _Features, epoch: int, seed: int, on_progress: OnProgress
) -> float:
    """Train on every image once, each in a view that is drawn; returns the mean loss of the steps."""
    rng = np.random.default_rng([seed, epoch])
    seed_dropout(learner.head, seed, epoch)
    losses = []
    steps = _steps(rng.permutation(len(features.labels)), recipe.batch)
    for number, places in enumerate(steps):
        drawn = rng.integers(len(features.views), size=len(places))
        views = np.stack([features.views[view][place] for view, place in zip(drawn, places, strict=True)])
        originals = features.views[0][places]
        inputs = (views.astype(np.float32), originals.astype(np.float32))
        losses.append(float(learner.train_on_batch(inputs, features.labels[places])))
        on_progress(f"epoch {epoch + 1} of {recipe.epochs}", number + 1, len(steps))
    return float(np.mean(losses))


def _validation_metrics(learner: _Learner, features: _Features, data: TrainingData) -> EpochMetrics:
    _, scores, with_background = _scored(learner.head, features, data)
    inputs = features.validation.astype(np.float32)
    metrics = {
        "validation_loss": float(learner.test_on_batch((inputs, inputs), data.validation.labels)),
        f"p_at_{K}": scores.p_at_k,
    }
    return metrics | ({f"p_at_{K}_background": with_background.p_at_k} if with_background else {})


def _scored(
    head: keras.Model, features: _Features, data: TrainingData
) -> tuple[ClassificationReport, SearchScores, SearchScores | None]:
    """Return how well the embeddings of a head tell the classes of the validation images, and how well they search."""
    return nearest_neighbour_scores(
        data,
        training=_embed(head, features.views[0][: len(data.training)]),
        validation=_embed(head, features.validation),
        held_back=None if features.held_back is None else _embed(head, features.held_back),
    )


def _mean_and_deviation(features: Stored) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and deviation of each feature, [channels]."""
    sums, squares = np.zeros(features.shape[1]), np.zeros(features.shape[1])
    for start in range(0, len(features), _EMBEDDED_AT_ONCE):
        part = features[start : start + _EMBEDDED_AT_ONCE].astype(np.float64)
        sums += part.sum(axis=0)
        squares += np.square(part).sum(axis=0)
    mean = sums / len(features)
    return mean, np.sqrt(np.maximum(0, squares / len(features) - mean**2)) + _DEVIATION_ADDED


def _steps(order: Labels, batch: int) -> list[Labels]:
    """Return the places of the images of each step: about `batch`, the same number in each but for one image."""
    return np.array_split(order, max(1, len(order) // batch))


def _embed(head: keras.Model, features: Stored) -> Floats:
    """Return embeddings of length 1, float32 [n, dim]."""
    starts = range(0, len(features), _EMBEDDED_AT_ONCE)
    batches = (features[start : start + _EMBEDDED_AT_ONCE].astype(np.float32) for start in starts)
    return np.concatenate([keras.ops.convert_to_numpy(_unit(head.predict_on_batch(batch))) for batch in batches])


def _unit(x: Any) -> Any:
    return keras.ops.normalize(x, axis=-1)
