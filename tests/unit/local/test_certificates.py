"""Certificates of the local servers: made once, private, and made again once they are damaged."""

import stat
from pathlib import Path

from cryptography import x509

from local.certificates import certificates
from local.data_folder import DataFolder


def test_they_are_kept_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    files = certificates(folder, "store")
    first = files.read(folder.path)
    assert certificates(folder, "store").read(folder.path) == first
    assert certificates(folder, "services").read(folder.path).ca != first.ca
    places = list((folder.path / "certificates").rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in places} == {0}


def test_no_key_is_kept_that_could_sign_another(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    tls = certificates(folder, "store").read(folder.path)
    assert tls.ca.count(b"BEGIN CERTIFICATE") == 1
    assert b"PRIVATE" not in tls.ca
    own = x509.load_pem_x509_certificate(tls.certificate)
    assert not own.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_what_a_dying_process_left_half_is_made_again(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    files = certificates(folder, "store")
    other = certificates(folder, "services")
    folder.write(str(files.key), (folder.path / other.key).read_text())
    before = files.read(folder.path)
    after = certificates(folder, "store").read(folder.path)
    assert (after.ca, after.key) != (before.ca, before.key)
    (folder.path / files.ca).write_text("")
    assert certificates(folder, "store").read(folder.path).ca not in {b"", after.ca}
