"""ResNet50 and ResNet50V2 of Keras Applications, the published weights put into them.

He et al. 2015, https://arxiv.org/abs/1512.03385, and, with the norms before the convolutions, He et al. 2016,
https://arxiv.org/abs/1603.05027.
"""

import keras

from training.weights import WeightsError


def features(pixels: keras.KerasTensor, application: str) -> keras.KerasTensor:
    """Return the last feature map of the network of `keras.applications` named `application`, with random weights."""
    make = getattr(keras.applications, application)
    return make(include_top=False, weights=None, input_tensor=pixels).output


def load_imagenet(network: keras.Model, application: str) -> None:
    """Put the published weights into a network made with `features`; they are downloaded once, and kept by Keras.

    Raises:
        WeightsError: they cannot be had.
    """
    try:
        published = getattr(keras.applications, application)(include_top=False, weights="imagenet")
    except Exception as error:  # a download can end in nearly anything
        raise WeightsError(
            f"the ImageNet weights of {network.name} cannot be downloaded ({error}); where there is internet, "
            f'run keras.applications.{application}(weights="imagenet"), which leaves them in ~/.keras/models, '
            "and give that .h5 file for the weights"
        ) from error
    for layer in published.layers:
        if layer.weights:
            network.get_layer(layer.name).set_weights(layer.get_weights())
