"""Texts that several sections share."""

from reproduction.networks import Network


def about_network(network: Network) -> str:
    """Return what is run in a network's place, and why."""
    if not network.stands_in:
        return f"The network is the report's own, {network.title}, with the weights {network.weights!r}."
    return (
        f"{network.backbone} with ImageNet weights stands in for {network.title}, whose weights no package "
        f"has; --{network.key} imagenet, or a file, runs the report's own. Distances of one network say nothing of "
        "those of another."
    )


def model_title(name: str) -> str:
    """Return the report's title of a model, such as "Model 2" for the recipe resnet50-model2."""
    return name.rpartition("-")[2].replace("model", "Model ")
