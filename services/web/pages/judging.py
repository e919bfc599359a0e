"""A round of judging, from the page with what a search found: its files, to train on."""

from flask import request
from flask.typing import ResponseReturnValue

from services.web.access import GuardedBlueprint, of_path
from services.web.api.inputs import CollectionPath, checked
from services.web.api.judgements import Judgement, training_archive
from services.web.pages.fields import read_fields

blueprint = GuardedBlueprint("judging", __name__)


@blueprint.post("/collections/<name>/judgements/training", access=of_path("originals"))
def training_files(name: str) -> ResponseReturnValue:
    """Return the files of what was searched for and marked, as a ZIP file to train on."""
    path = checked(CollectionPath, {"name": name}, "collection")
    return training_archive(path.name, read_fields(Judgement, request.form.to_dict(flat=False)))
