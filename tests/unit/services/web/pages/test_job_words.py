"""What the lists of jobs say of one."""

import pytest
from flask import render_template_string

from tests.support.gated_web import Door

_COUNTS = '{% from "_jobs.html" import counts %}{{ counts(job) }}'


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"added": 1234, "duplicates": 2, "rejected": 1}, "1,234 added, 2 already there, 1 left out"),
        ({"relabelled": 3, "affected": 4}, "3 relabelled, 4 affected"),
        ({}, "–"),
    ],
)
def test_what_came_of_a_job_is_told_in_words(found: dict[str, int], told: str) -> None:
    with Door().app.test_request_context("/"):
        assert render_template_string(_COUNTS, job=found) == told
