"""Which library networks are trained with: what KERAS_BACKEND or Keras' configuration names, if it can train."""

from pathlib import Path

import pytest

from shared.errors import Invalid
from training import backend
from training.backend import chosen_backend


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Keras' configuration is looked for, instead of the home folder."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    (tmp_path / "keras").mkdir()
    return tmp_path / "keras" / "keras.json"


def test_it_is_the_variable_s_then_the_configuration_s_then_tensorflow(
    own_configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "find_spec", lambda name: name)
    assert chosen_backend() == "tensorflow"
    for text in ("{", "[]", "{}"):
        own_configuration.write_text(text)
        assert chosen_backend() == "tensorflow"
    own_configuration.write_text('{"backend": "torch"}')
    assert chosen_backend() == "torch"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert chosen_backend() == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "")
    assert chosen_backend() == "torch"


def test_what_cannot_train_is_told_with_what_can(own_configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("jaxx", "numpy", "openvino", "JAX"):
        monkeypatch.setenv("KERAS_BACKEND", name)
        with pytest.raises(Invalid, match=f"KERAS_BACKEND is '{name}', expected tensorflow, jax or torch"):
            chosen_backend()
    monkeypatch.delenv("KERAS_BACKEND")
    own_configuration.write_text('{"backend": "theano"}')
    with pytest.raises(Invalid, match=r"keras\.json is 'theano', expected"):
        chosen_backend()


def test_what_is_not_installed_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "find_spec", lambda _name: None)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(Invalid, match=r"'jax', which is not installed; install it \(.*python\S* -m pip install jax\)"):
        chosen_backend()
