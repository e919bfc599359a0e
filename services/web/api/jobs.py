"""Jobs: what became of what was handed in."""

from flask.typing import ResponseReturnValue

from services.web.answers import JobAnswer, job_answer
from services.web.api.table import api, reply
from services.web.inputs import JobPath
from services.web.openapi import Answer
from services.web.parts import parts


@api.operation(
    "GET",
    "/jobs/{id}",
    path_model=JobPath,
    answers={200: Answer("The job as it stands.", JobAnswer)},
    problems=(404, 503),
)
def get_job(path: JobPath) -> ResponseReturnValue:
    """Tell how a job stands; jobs are kept for a week."""
    return reply(job_answer(parts().jobs.get(path.id)))
