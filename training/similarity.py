"""Learning an embedding for search: classes drawn together, and what the frozen backbone knew of everything else kept.

A network that learns its classes alone forgets what tells them from other things, and a search in a mixed collection
drowns. So the backbone stays as it is, and the head on its features learns two things at once: that images of a class
be near each other (supervised contrastive loss, Khosla et al. 2020, https://arxiv.org/abs/2004.11362, with all
background images as one more class), and that any two images be as similar as their frozen features are (relational
distillation, after Park et al. 2019, https://arxiv.org/abs/1904.05068). Several such heads, drawn anew each, err in
different places: they learn side by side, and a projection brings what they say together to few dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from shared.evaluation.retrieval_metrics import average_precision_at_k, precision_at_k
from training.architecture import Architecture
from training.fitting import Fitting, make_deterministic, seed_dropout
from training.frozen import Floats, Kept, Tell, frozen_outputs
from training.judging import Classification
from training.labelled import Labelled, Picture
from training.network import EMBEDDING, build_network, set_standardisation
from training.pretrained import Weights
from training.principal_axes import fit_projection
from training.recipes import SearchRecipe
from training.runs import Run

K = 10
"""The nearest images that a search is judged by, and a class told by."""

_AT_ONCE = 1024  # features that are embedded at a time
_STEADY = 1e-3  # is added to the deviation of a feature: one that hardly varies must not count for much
_WARM = 0.3  # of the steps, in which the learning rate rises
_COLD = 1 / 25  # of the highest learning rate: the first


@dataclass(frozen=True)
class Search:
    """How good a search with the validation images among the training images is.

    Attributes:
        p_at_k, ap_at_k: Means over all queries.
        per_class: Both, of the queries of each class.
    """

    p_at_k: float
    ap_at_k: float
    per_class: dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class Embedded:
    """What came of a run.

    Attributes:
        network: Pictures, float32 [n, size, size, 3] RGB 0 to 255, to embeddings, float32 [n, dim], not normalised.
        architecture: What it is built of.
        history: Of each epoch loss and P@10 of the validation images, before any projection.
        report: Each validation image's class told by its nearest training images.
        search: Validation images as queries, among the training images.
        mixed: The same among background images that were held back as well; None without any.
    """

    network: keras.Model
    architecture: Architecture
    history: list[dict[str, float]]
    report: Classification
    search: Search
    mixed: Search | None


class _Learner(keras.Model):  # type: ignore[misc]
    """What learns: features and their originals in, embeddings of length 1 out, those of several heads side by side."""

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
        same = ops.cast(ops.equal(y[:, None], y[None, :]), "float32") * others
        known = _unit(self.head.get_layer(f"{EMBEDDING}_0")(x[1]))
        frozen = ops.matmul(known, ops.transpose(known))
        loss = 0.0
        for one in ops.split(y_pred, recipe.heads, axis=1):  # none knows of the others
            embedding = _unit(one)
            similar = ops.matmul(embedding, ops.transpose(embedding))
            logits = similar / recipe.temperature - 1e9 * (1 - others)
            told = logits - ops.logsumexp(logits, axis=1, keepdims=True)
            contrast = -ops.mean(ops.sum(told * same, axis=1) / ops.maximum(ops.sum(same, axis=1), 1))
            kept = ops.mean(ops.square(similar - frozen))
            loss += recipe.contrast * contrast + recipe.keep * kept
        return loss / recipe.heads


def fine_tune(
    run: Run,
    recipe: SearchRecipe,
    weights: Weights,
    training: Labelled,
    validation: Labelled,
    background: tuple[Sequence[Picture], Sequence[Picture]],
    *,
    size: int,
    seed: int,
    tell: Tell,
) -> Embedded:
    """Train, or go on training, and judge by the validation images. Pictures are squares of `size` pixels.

    Args:
        run: Where it is kept.
        recipe: How.
        weights: What the backbone has.
        training: The images to learn from.
        validation: Those to judge by.
        background: Images of no class: some to learn from, and some that the search is judged among.
        size: In pixels.
        seed: Of all that is drawn.
        tell: Is told how far it is.
    """
    make_deterministic()
    architecture = Architecture(
        backbone=recipe.backbone,
        input_size=size,
        shorter_side=size,
        pooling=recipe.pooling,
        embedding=recipe.head,
        normalised=True,
    )
    keras.utils.set_random_seed(seed)
    network = build_network(architecture, weights)
    pooled = network.get_layer("pooling").output
    frozen, whole = keras.Model(network.input, pooled), keras.Model(pooled, network.output)
    head = keras.Model(pooled, network.get_layer(f"{EMBEDDING}_{recipe.learned - 1}").output)
    pictures = [*training.pictures, *background[0]]
    labels = np.concatenate([training.labels, np.full(len(background[0]), len(training.classes))])

    def outputs(name: str, some: Sequence[Picture], view: int = 0) -> Kept:
        seeds = [[seed, view, place] for place in range(len(some))] if view else None
        return frozen_outputs(run, name, frozen, [one.path for one in some], size, tell, seeds=seeds)

    judged, held = outputs("validation", validation.pictures), background[1]
    unseen = outputs("background", held) if held else None
    views = [
        outputs(f"training, view {view}" if view else "training", pictures, view) for view in range(recipe.views + 1)
    ]
    set_standardisation(network, *_standardisation(views[0]))
    learner = _learner(head, recipe, len(pictures))
    fitting = Fitting(learner, lambda _new, _best: True)  # the learning rate ends at nothing: the last is the best
    fitting.restore(run)
    while (epoch := len(fitting.history)) < recipe.epochs:
        rng = np.random.default_rng([seed, epoch])
        seed_dropout(head, seed, epoch)
        losses = []
        steps = _steps(rng.permutation(len(pictures)), recipe.batch)
        for number, places in enumerate(steps):
            chosen = rng.integers(len(views), size=len(places))
            features = np.stack([views[view][place] for view, place in zip(chosen, places, strict=True)])
            known = views[0][places]
            taught = (features.astype(np.float32), known.astype(np.float32))
            losses.append(float(learner.train_on_batch(taught, labels[places])))
            tell(f"epoch {epoch + 1} of {recipe.epochs}", number + 1, len(steps))
        found = _judge(head, views[0][: len(training)], training, judged, validation, unseen)
        alone = judged.astype(np.float32)
        figures = {
            "loss": float(np.mean(losses)),
            "validation_loss": float(learner.test_on_batch((alone, alone), validation.labels)),
            f"p_at_{K}": found[1].p_at_k,
        }
        fitting.end_epoch(figures | ({f"p_at_{K}_background": found[2].p_at_k} if found[2] else {}))
        fitting.keep(run)
    fitting.take_best()
    if recipe.projected is not None:
        axes = fit_projection(_embed(head, views[0]), recipe.projected)
        network.get_layer(f"{EMBEDDING}_{recipe.learned}").set_weights([axes])
    report, search, mixed = _judge(whole, views[0][: len(training)], training, judged, validation, unseen)
    return Embedded(network, architecture, fitting.history, report, search, mixed)


def _learner(head: keras.Model, recipe: SearchRecipe, images: int) -> _Learner:
    """Return what is fitted: by AdamW, whose learning rate rises and then falls to nothing over all epochs.

    After Smith and Topin 2019, https://arxiv.org/abs/1708.07120.
    """
    learner = _Learner(head, recipe)
    steps = recipe.epochs * len(_steps(np.arange(images), recipe.batch))
    warm = max(1, round(_WARM * steps))
    rate = keras.optimizers.schedules.CosineDecay(
        _COLD * recipe.learning_rate, max(1, steps - warm), warmup_target=recipe.learning_rate, warmup_steps=warm
    )
    learner.compile(optimizer=keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay))
    width = head.input_shape[-1]
    learner.build([(None, width), (None, width)])
    learner.optimizer.build(learner.trainable_variables)
    return learner


def _standardisation(features: Kept) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and deviation of each feature, [channels]."""
    sums, squares = np.zeros(features.shape[1]), np.zeros(features.shape[1])
    for start in range(0, len(features), _AT_ONCE):
        part = features[start : start + _AT_ONCE].astype(np.float64)
        sums += part.sum(axis=0)
        squares += np.square(part).sum(axis=0)
    mean = sums / len(features)
    return mean, np.sqrt(np.maximum(0, squares / len(features) - mean**2)) + _STEADY


def _steps(order: npt.NDArray[np.int64], batch: int) -> list[npt.NDArray[np.int64]]:
    """Return the images of each step, about `batch`, all alike but for one."""
    return np.array_split(order, max(1, len(order) // batch))


def _judge(
    head: keras.Model, gallery: Kept, training: Labelled, queries: Kept, validation: Labelled, unseen: Kept | None
) -> tuple[Classification, Search, Search | None]:
    """Return how well the classes of the validation images are told, and how good they search."""
    found, asked = _embed(head, gallery), _embed(head, queries)
    similar, labels = asked @ found.T, training.labels
    nearest = np.argsort(-similar, axis=1, kind="stable")[:, :K]
    votes = np.zeros((len(asked), len(training.classes)))
    np.add.at(votes, (np.arange(len(asked))[:, None], labels[nearest]), np.take_along_axis(similar, nearest, axis=1))
    report = Classification.of(training.classes, validation.labels, votes.argmax(axis=1))
    search = _search(similar, labels, validation)
    if unseen is None:
        return report, search, None
    mixed = np.concatenate([similar, asked @ _embed(head, unseen).T], axis=1)
    return report, search, _search(mixed, np.concatenate([labels, np.full(len(unseen), -1)]), validation)


def _search(similar: Floats, labels: npt.NDArray[np.int64], validation: Labelled) -> Search:
    """Return how good a search is: similarities [queries, images], the class of each image, -1 for none."""
    asked = validation.labels
    nearest = np.argsort(-similar, axis=1, kind="stable")[:, :K]
    relevant = labels[nearest] == asked[:, None]
    relevant = np.pad(relevant, ((0, 0), (0, K - nearest.shape[1])))
    precision = precision_at_k(relevant)
    average = average_precision_at_k(relevant, np.bincount(labels[labels >= 0], minlength=asked.max() + 1)[asked])
    per_class = {
        name: {"p_at_k": float(precision[asked == place].mean()), "ap_at_k": float(average[asked == place].mean())}
        for place, name in enumerate(validation.classes)
    }
    return Search(float(precision.mean()), float(average.mean()), per_class)


def _embed(head: keras.Model, features: Kept) -> Floats:
    """Return embeddings of length 1, float32 [n, dim]."""
    parts = [
        keras.ops.convert_to_numpy(_unit(head.predict_on_batch(features[start : start + _AT_ONCE].astype(np.float32))))
        for start in range(0, len(features), _AT_ONCE)
    ]
    return np.concatenate(parts)


def _unit(x: Any) -> Any:
    return keras.ops.normalize(x, axis=-1)
