"""Writes a network as a SavedModel that TensorFlow Serving serves, uint8 RGB in, embeddings out; and runs it."""

from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from shared.rpc.serving import serving_pb2
from shared.rpc.serving.golden import Embed, Floats, Images

SIGNATURE = "serving_default"
INPUT = "images"
OUTPUT = "embeddings"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"


def write_saved_model(network: keras.Model, folder: Path, *, normalised: bool) -> None:
    """Write the SavedModel of a network from float32 [batch, size, size, 3], RGB 0 to 255, to float32 [batch, dim].

    Its signature `serving_default` takes `images`, uint8 [batch, size, size, 3] in RGB order, and gives `embeddings`,
    float32 [batch, dim], each row of Euclidean length 1 if `normalised`. The weights are constants of the graph: known
    when the graph is optimised, they are laid out once for the CPU's convolutions, where variables would be again at
    every call.
    """
    spec = tf.TensorSpec(network.input_shape, tf.uint8, name=INPUT)

    @tf.function(input_signature=[spec])  # type: ignore[untyped-decorator]
    def embed(images: tf.Tensor) -> tf.Tensor:
        embeddings = network(tf.cast(images, tf.float32), training=False)
        return tf.math.l2_normalize(embeddings, axis=-1) if normalised else embeddings

    frozen = convert_variables_to_constants_v2(embed.get_concrete_function())

    @tf.function(input_signature=[spec])  # type: ignore[untyped-decorator]
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        [embeddings] = frozen(tf.ensure_shape(images, spec.shape))
        return {OUTPUT: tf.ensure_shape(embeddings, network.output_shape)}

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: serve})


def saved_model_embed(folder: Path) -> Embed:
    """Return the function that the SavedModel in a folder computes."""
    model = tf.saved_model.load(str(folder))
    signature = model.signatures[SIGNATURE]

    def embed(images: Images) -> Floats:
        return np.asarray(signature(**{INPUT: tf.constant(images)})[OUTPUT])

    return embed


def write_warmup(folder: Path, model: str, version: int, input_size: int, batches: Iterable[int]) -> None:
    """Write requests that a server replays before it serves the model in `folder`, one for each size in `batches`.

    The first request of a batch size pays for preparing the graph for it; this way no client does.
    """
    path = folder / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for batch in batches:
            log = serving_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = model
            request.model_spec.version.value = version
            request.model_spec.signature_name = SIGNATURE
            images = request.inputs[INPUT]
            images.dtype = serving_pb2.DT_UINT8
            for size in (batch, input_size, input_size, 3):
                images.tensor_shape.dim.add(size=size)
            images.int_val.append(127)  # one value stands for all
            writer.write(log.SerializeToString())
