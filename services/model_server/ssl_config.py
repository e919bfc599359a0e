"""TensorFlow Serving's ``--ssl_config_file``: the keys and certificates of the gRPC port.

The package of TensorFlow Serving's messages lacks SSLConfig, so it is put together here.
"""

from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from services.model_server.status import invalid_argument

_TEXTS = ("server_key", "server_cert", "custom_ca")
_FLAG = "client_verify"


def _message_class() -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="artseek/ssl_config.proto", package="artseek")
    message = file.message_type.add(name="SSLConfig")
    for number, name in enumerate((*_TEXTS, _FLAG), start=1):
        kind = field.TYPE_BOOL if name == _FLAG else field.TYPE_STRING
        message.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)
    pool: Any = descriptor_pool.DescriptorPool()  # its types are declared in part
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("artseek.SSLConfig"))


def read_credentials(path: Path) -> grpc.ServerCredentials:
    """Return the credentials that a file names.

    Raises:
        StatusError: It cannot be read, or lacks something; the message has nothing of its content.
    """
    try:
        config = text_format.Parse(path.read_text("utf-8"), _message_class()())
    except (OSError, ValueError, text_format.ParseError) as error:  # only the place is told: a key may be there
        place = f" in line {error.GetLine()}" if isinstance(error, text_format.ParseError) else ""
        reason = error.strerror if isinstance(error, OSError) else f"expected SSLConfig in text format{place}"
        raise invalid_argument(f"--ssl_config_file {path}: {reason}") from None
    needed = ("server_key", "server_cert", *(["custom_ca"] if config.client_verify else []))
    if lacking := [name for name in needed if not getattr(config, name)]:
        raise invalid_argument(f"--ssl_config_file {path} lacks {' and '.join(lacking)}")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
