"""The demonstration: a collection ingested, and a search answered, on the running local system."""

from pathlib import Path

from local.commands import run_command, say
from local.system import LocalSystem
from shared.images import ImageRefused, decode
from shared.stopping import StopSignal


def show(system: LocalSystem, images: Path | None, stop: StopSignal) -> int:
    """Ingest the user's pictures or the sample gallery, and search for one of them; returns the exit status."""
    if images is None:
        images = system.folder.path / "sample-gallery"
        status = run_command(["-m", "local.demo.sample_gallery", str(images)], stop)
        if status:
            return status
    status = run_command(
        ["-m", "cli", "ingest", str(images), "--labels-from-folders"], stop, environment=system.environment
    )
    if status not in {0, 3}:  # 3: some files were rejected, and reported
        return status
    sample = next((path for path in sorted(images.rglob("*")) if _is_image(path)), None)
    if sample is None:
        return 0
    say(f"\nThe works most similar to {sample.relative_to(images)}:")
    return run_command(["-m", "cli", "search", str(sample), "-k", "5"], stop, environment=system.environment)


def _is_image(path: Path) -> bool:
    """Return whether a file was taken: the first of a folder may be one of those that were not."""
    try:
        return path.is_file() and bool(decode(path.read_bytes(), size=32))
    except (ImageRefused, OSError):
        return False
