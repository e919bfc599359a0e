"""The `artseek` command, assembled from the groups of commands.

Exit status: 0 success; 1 an error, or an answer that says no (`status`: a part is down; `delete`: some images were not
there; `models check`: a version is not served as it was trained); 2 wrong usage; 3 `ingest`, `evaluate` or `models use`
did its work but left some images out; 130 interrupted.
"""

import click

from cli.collections import collections, delete
from cli.evaluate import evaluate
from cli.index import compact, rebuild, tune
from cli.ingest import ingest
from cli.models import models
from cli.search import search
from cli.system import status, up
from cli.training import report, train


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="artseek")
def main() -> None:
    """Find the images in a collection that look like the one you hold up.

    Commands reach the system that `artseek up --data DIR` started if ARTSEEK_DATA names the same folder (default
    ./data).
    """


for _command in (
    *(up, status),
    *(ingest, delete, collections, search),
    *(tune, rebuild, compact),
    *(evaluate, models),
    *(train, report),
):
    main.add_command(_command)
