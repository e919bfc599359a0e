"""Backups: consistent copies of a running system, each blob once, and their way back."""

from pathlib import Path

from shared.backup.folder_target import FolderTarget
from shared.backup.s3_target import SCHEME, S3Target
from shared.backup.target import Target
from shared.errors import Invalid
from shared.settings import Settings

__all__ = ["Target", "target_of"]


def target_of(text: str, settings: Settings) -> Target:
    """Return the target that a command line names: ``s3://bucket/prefix``, or a folder.

    Raises:
        Invalid: It is neither, or its server is not known.
    """
    if text.startswith(SCHEME):
        return S3Target.from_settings(text, settings)
    if "://" in text:
        raise Invalid(f"{text!r} is neither a folder nor s3://BUCKET/PREFIX")
    folder = Path(text).resolve()
    for own in (settings.data.resolve(), settings.models.resolve(), settings.query_copy.resolve()):
        if own in (folder, *folder.parents):
            raise Invalid(f"{text!r} lies in {str(own)!r}, a folder of the system itself: a backup must lie elsewhere")
    return FolderTarget(folder)
