"""The model config: TensorFlow Serving's ModelServerConfig, read from its text format and checked."""

from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from services.model_server.status import invalid_argument

PLATFORM = "tensorflow"


def read_config(path: Path) -> model_server_config_pb2.ModelConfigList:
    """Return the checked model list of the config file at `path`.

    Raises:
        StatusError: the file cannot be read or parsed, or its contents do not fit; the message says what does.
    """
    try:
        config = text_format.Parse(path.read_text("utf-8"), model_server_config_pb2.ModelServerConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise invalid_argument(f"cannot read the model config file {path}: {error}") from error
    return model_list(config)


def model_list(config: model_server_config_pb2.ModelServerConfig) -> model_server_config_pb2.ModelConfigList:
    """Return the model list of a config after checking it.

    Raises:
        StatusError: it has no model list, or one with a model that cannot be served as it says.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid_argument("the model config has no model_config_list, and no other kind is supported")
    seen: set[str] = set()
    for model in config.model_config_list.config:
        if not model.name:
            raise invalid_argument("a model of the config has no name")
        if model.name in seen:
            raise invalid_argument(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
        if model.model_platform != PLATFORM:
            raise invalid_argument(
                f"Model {model.name} requests unsupported platform {model.model_platform!r}, expected {PLATFORM!r}"
            )
        if not Path(model.base_path).is_absolute():
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path; got base_path()={model.base_path}"
            )
    return config.model_config_list
