"""The `artseek` command, assembled from the groups of commands.

Exit status: 0 success; 1 an error, a job that somebody else cancelled, or an answer that says no (`status`: a part is
down; `delete`, `trash restore`: some images were not there; `models check`: a version is not served as it was trained;
`compare`: the two are not the same; `verify`: there is damage; `sync`: too much has vanished); 2 wrong usage; 3
`ingest`, `sync`, `evaluate`, `models use`, `regions on`, `records import` or `judge` did its work but left some images
or rows out; 130 interrupted.
"""

from typing import Final

import click

from cli.lazy_group import CommandPlace, LazyGroup

COMMANDS: Final = {
    "audit": CommandPlace("cli.audit:audit", "Show who did what, the latest entry first."),
    "backup": CommandPlace("cli.backup:backup", "Copy the running system to a folder or a bucket."),
    "collections": CommandPlace("cli.collections:collections", "List, rename or delete collections."),
    "compact": CommandPlace("cli.index:compact", "Merge the segments of collections now."),
    "compare": CommandPlace("cli.compare:compare", "Tell whether two images show the same."),
    "delete": CommandPlace("cli.collections:delete", "Move images to the trash, or remove them for good."),
    "duplicates": CommandPlace("cli.duplicates:duplicates", "Find images of a collection that show the same."),
    "evaluate": CommandPlace("cli.evaluate:evaluate", "Judge the answers of a collection by labelled queries."),
    "export": CommandPlace("cli.records:export_collection", "Write a collection's images and records into a file."),
    "import": CommandPlace("cli.vectors:import_vectors", "Import images with their embeddings."),
    "ingest": CommandPlace("cli.ingest:ingest", "Add images to a collection."),
    "jobs": CommandPlace("cli.jobs:jobs", "List jobs, show one, or cancel one."),
    "judge": CommandPlace("cli.judge:judge", "Keep which images are of a class and which are not."),
    "keys": CommandPlace("cli.keys:keys", "Make, list and revoke API keys."),
    "map": CommandPlace("cli.map:make_map", "Lay the images of a collection out by likeness."),
    "models": CommandPlace("cli.models:models", "List models, or change that of a collection."),
    "rebuild": CommandPlace("cli.index:rebuild", "Restore the index from the object store alone."),
    "records": CommandPlace("cli.records:records", "Import what is known of the images."),
    "regions": CommandPlace("cli.regions:regions", "Index regions of images, to find them by details."),
    "report": CommandPlace("cli.training:report", "Reproduce the university report's tables."),
    "restore": CommandPlace("cli.backup:restore", "Restore a backup into an empty system."),
    "search": CommandPlace("cli.search:search", "Print the images that look most like one."),
    "share": CommandPlace("cli.share:share", "Make, list and revoke share links."),
    "status": CommandPlace("cli.system:status", "Tell which part of the system is up."),
    "sync": CommandPlace("cli.sync:sync_folder", "Bring a collection in step with a folder."),
    "train": CommandPlace("cli.training:train", "Fine-tune a network for search."),
    "trash": CommandPlace("cli.trash:trash", "List, restore or empty the trash of a collection."),
    "tune": CommandPlace("cli.index:tune", "Find the cheapest index that reaches a recall."),
    "up": CommandPlace("cli.system:up", "Run the whole system on this machine."),
    "users": CommandPlace("cli.users:users", "Say who may log in, and what they may do."),
    "verify": CommandPlace("cli.verify:verify", "Tell whether all that is stored is whole."),
}


@click.group(cls=LazyGroup, places=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="artseek")
def main() -> None:
    """Find the images in a collection that look like the one you hold up.

    Commands reach the system that `artseek up --data DIR` started if ARTSEEK_DATA names the same folder (default
    ./data).
    """
