"""Reads the fields of a page's address or form."""

from typing import TypeVar

from pydantic import BaseModel

from services.web.api.inputs import checked_texts

Model = TypeVar("Model", bound=BaseModel)


def read_fields(model: type[Model], texts: dict[str, list[str]]) -> Model:
    """Return the fields that the model knows; empty fields take their defaults, unknown fields are ignored.

    Raises:
        Problem: The value of a field does not fit.
    """
    known = {name: values for name, values in texts.items() if name in model.model_fields and values != [""]}
    return checked_texts(model, known, "page")
