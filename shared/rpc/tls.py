"""TLS on gRPC, with certificates of both sides: who has none that the authority signed is refused.

Without a setting, gRPC goes without TLS, as the containers' inner network has it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from shared.errors import Invalid
from shared.pem_files import read_pem

if TYPE_CHECKING:
    from shared.settings import Settings

Options = list[tuple[str, int | str]]

_RECONNECTING = [
    # A server that was killed is back within seconds: gRPC's own pauses grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # For all its name, it is how long an attempt to connect may take: on a busy machine, that is seconds.
    ("grpc.min_reconnect_backoff_ms", 10_000),
]


@dataclass(frozen=True)
class GrpcTls:
    """What one side shows and what it asks of the other, as PEM.

    Attributes:
        ca: The certificates of the authority that signed those of the other side.
        key: The private key of one's own certificate; empty: one has none.
        certificate: The own certificate, with those between it and the authority; empty: one has none.
    """

    ca: bytes
    key: bytes = b""
    certificate: bytes = b""

    def client(self) -> grpc.ChannelCredentials:
        """Return the credentials of a client."""
        return grpc.ssl_channel_credentials(self.ca, self.key or None, self.certificate or None)

    def server(self) -> grpc.ServerCredentials:
        """Return the credentials of a server that asks each client for a certificate.

        Raises:
            Invalid: There is no certificate to show.
        """
        if not self.certificate:
            raise Invalid(
                "a gRPC server with TLS needs a certificate of its own: "
                "set ARTSEEK_GRPC_CERTIFICATE and ARTSEEK_GRPC_KEY beside ARTSEEK_GRPC_CA"
            )
        return grpc.ssl_server_credentials([(self.key, self.certificate)], self.ca, require_client_auth=True)


def grpc_tls(settings: "Settings") -> GrpcTls | None:
    """Return what the settings say of TLS on gRPC; None: it goes without.

    Raises:
        Invalid: A file cannot be read; the message names the setting.
    """
    from shared.settings import environment_name  # noqa: PLC0415 -- clients that have no settings need not read them

    if settings.grpc_ca is None:
        return None
    key, certificate = settings.grpc_key, settings.grpc_certificate
    return GrpcTls(
        read_pem(environment_name("grpc_ca"), settings.grpc_ca),
        b"" if key is None else read_pem(environment_name("grpc_key"), key),
        b"" if certificate is None else read_pem(environment_name("grpc_certificate"), certificate),
    )


def open_channel(target: str, tls: GrpcTls | None, options: Options | None = None) -> grpc.Channel:
    """Return a channel to the server at host:port; it is opened by the first call, and anew once a server is back.

    Of several servers, as gRPC writes them (``ipv4:ADDRESS:PORT,ADDRESS:PORT``), each shows a certificate of the first
    one's name.
    """
    given = [*_RECONNECTING, *(options or ())]
    scheme, _, servers = target.partition(":")
    if scheme in {"ipv4", "ipv6"} and "," in servers:
        given.append(("grpc.default_authority", servers.partition(",")[0]))
    if tls is None:
        return grpc.insecure_channel(target, options=given)
    return grpc.secure_channel(target, tls.client(), options=given)


def listen(server: grpc.Server, address: str, tls: GrpcTls | None) -> int:
    """Have a server listen at host:port; returns the port, 0 if it cannot.

    Raises:
        RuntimeError: It cannot.
        Invalid: It has no certificate to show.
    """
    if tls is None:
        return int(server.add_insecure_port(address))
    return int(server.add_secure_port(address, tls.server()))
