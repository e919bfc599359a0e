"""Classes as one text."""

import pytest

from shared.evaluation.classes import class_text, read_classes


@pytest.mark.parametrize("classes", [(), ("oil",), ("oil", "canvas"), ("a|b", "c\\\\", "\\\\|"), ("\\\\",)])
def test_classes_are_read_as_they_were_written(classes: tuple[str, ...]) -> None:
    assert read_classes(class_text(classes)) == classes
