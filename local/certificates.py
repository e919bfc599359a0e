"""Certificates of the local servers: who shows none of theirs is refused at their ports.

Each group of servers has an authority of its own, whose key is thrown away once it has signed the one certificate that
servers and clients of the group show: nobody can sign another.
"""

import datetime as dt
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.data_folder import DataFolder
from shared.rpc.tls import GrpcTls

FOLDER = "certificates"

_LASTS = dt.timedelta(days=3650)
_RENEWED_BEFORE = dt.timedelta(days=365)
_CLOCK = dt.timedelta(days=1)  # by which clocks may be set back
_NAMES = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]


@dataclass(frozen=True)
class Certificates:
    """The files of a group of servers: its authority, and certificate and key that its servers and clients show.

    The paths are relative to the data folder.
    """

    ca: Path
    certificate: Path
    key: Path

    def read(self, folder: Path) -> GrpcTls:
        """Return what the files in a data folder hold."""
        return GrpcTls(*((folder / path).read_bytes() for path in (self.ca, self.key, self.certificate)))


def certificates(folder: DataFolder, group: str) -> Certificates:
    """Return the certificates of a group; they are made if there are none, or if they end within a year."""
    place = Path(FOLDER, group)
    files = Certificates(place / "ca.crt", place / "inside.crt", place / "inside.key")
    if not _are_valid(folder.path, files):
        (folder.path / FOLDER).mkdir(mode=0o700, exist_ok=True)
        (folder.path / place).mkdir(mode=0o700, exist_ok=True)
        ca, certificate, key = make_certificates(f"artseek {group}")
        for path, text in ((files.ca, ca), (files.certificate, certificate), (files.key, key)):
            folder.write(str(path), text)
    return files


def ssl_config_text(tls: GrpcTls) -> str:
    """Return the content of TensorFlow Serving's --ssl_config_file, which has the certificates themselves."""
    texts = {"server_key": tls.key, "server_cert": tls.certificate, "custom_ca": tls.ca}
    lines = [f"{name}: {json.dumps(text.decode())}" for name, text in texts.items()]
    return "\n".join([*lines, "client_verify: true"]) + "\n"


def _are_valid(folder: Path, files: Certificates) -> bool:
    """Return whether the files belong together and last for a while; one that a dying process left half is no fit."""
    try:
        ca, certificate = (
            x509.load_pem_x509_certificate((folder / path).read_bytes()) for path in (files.ca, files.certificate)
        )
        key = serialization.load_pem_private_key((folder / files.key).read_bytes(), password=None)
        certificate.verify_directly_issued_by(ca)
    except Exception:
        return False
    now = dt.datetime.now(dt.UTC)
    return (
        certificate.public_key() == key.public_key()
        and certificate.not_valid_before_utc <= now
        and min(ca.not_valid_after_utc, certificate.not_valid_after_utc) - now > _RENEWED_BEFORE
    )


def make_certificates(name: str) -> tuple[str, str, str]:
    """Return a new authority, a certificate that it signed for both sides on loopback, and its key, as PEM."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
    now = dt.datetime.now(dt.UTC)

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, is_ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK)
            .not_valid_after(now + _LASTS)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
            .add_extension(_usage(is_ca=is_ca), critical=True)
        )

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ca = builder(issuer, authority.public_key(), is_ca=True).sign(authority, hashes.SHA256())
    both_sides = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        builder(subject, key.public_key(), is_ca=False)
        .add_extension(x509.SubjectAlternativeName(_NAMES), critical=False)
        .add_extension(both_sides, critical=False)
        .sign(authority, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ca.public_bytes(pem).decode(), certificate.public_bytes(pem).decode(), private.decode()


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
