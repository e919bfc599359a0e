"""The files of the exported models: into a repository, and back into a folder of models."""

import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shared.backup.copying import ObjectCopier
from shared.backup.repository import Damaged, Repository, spool
from shared.backup.snapshot import Entry, fits
from shared.backup.target import PART
from shared.errors import ArtseekError
from shared.model_config import MANIFEST, write_model_config


@dataclass(frozen=True)
class RestoredModels:
    """Which versions were written, were there already, and were there with other files than the backup's.

    `damaged` says what is wrong with files of those that were left out.
    """

    written: tuple[str, ...]
    kept: tuple[str, ...]
    different: tuple[str, ...]
    damaged: tuple[str, ...] = ()


def copy_models(folder: Path, copier: ObjectCopier) -> list[Entry]:
    """Copy the files of all exported versions into a repository; returns their entries."""
    entries = []
    for manifest in sorted(folder.glob(f"*/[0-9]*/{MANIFEST}")):
        for path in sorted(path for path in manifest.parents[1].rglob("*") if path.is_file()):
            with path.open("rb") as file:
                spooled = spool(iter(lambda file=file: file.read(PART), b""))  # type: ignore[misc]
            with spooled.file:
                entry = Entry(path.relative_to(folder).as_posix(), spooled.digest, spooled.size)
                if fits(entry):
                    copier.add_blob(spooled)
                    entries.append(entry)
    return entries


def restore_models(
    entries: Iterable[Entry], repository: Repository, folder: Path, *, without_damaged: bool = False
) -> RestoredModels:
    """Write the versions that a folder lacks, each whole, and have the model server serve them.

    Args:
        entries: The files of the versions.
        repository: Has the files.
        folder: The models of the system.
        without_damaged: Whether to leave out versions of which a file is damaged in the backup.

    Raises:
        Damaged: A blob is missing or damaged.
        ArtseekError: The folder cannot be written to.
    """
    versions: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        name, number, _ = entry.key.split("/", 2)
        versions[f"{name}/{number}"].append(entry)
    written: list[str] = []
    kept: list[str] = []
    different: list[str] = []
    damaged: list[str] = []
    for version, files in sorted(versions.items()):
        if (folder / version / MANIFEST).exists():
            (kept if _same(files, folder) else different).append(version)
        else:
            try:
                _write_version(version, files, repository, folder)
            except Damaged as error:
                if not without_damaged:
                    raise Damaged(
                        f"the model {version} is damaged in the backup, and no collection was restored. Restore an "
                        f"earlier snapshot, or this one --without-damaged.\n  {error}"
                    ) from error
                damaged.append(str(error))
            except OSError as error:
                raise ArtseekError(
                    f"the model {version} cannot be written to the folder of ARTSEEK_MODELS: {error}"
                ) from error
            else:
                written.append(version)
    if written:
        write_model_config(folder, str(folder.resolve()))
    return RestoredModels(tuple(written), tuple(kept), tuple(different), tuple(damaged))


def _same(files: Iterable[Entry], folder: Path) -> bool:
    for entry in files:
        try:
            with (folder / entry.key).open("rb") as file:
                spooled = spool(iter(lambda file=file: file.read(PART), b""))  # type: ignore[misc]
        except OSError:
            return False
        spooled.file.close()
        if spooled.digest != entry.digest:
            return False
    return True


def _write_version(version: str, files: Iterable[Entry], repository: Repository, folder: Path) -> None:
    """Write a version beside its place, and move it there."""
    part = folder / f".{version.replace('/', '-')}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        for entry in files:
            path = part / entry.key.split("/", 2)[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for data in repository.read_blob(entry):
                    file.write(data)
    except Damaged:
        shutil.rmtree(part, ignore_errors=True)
        raise
    place = folder / version
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)  # it has no manifest, so it is none
    part.rename(place)
