"""The application factory."""

from flask import Flask

from services.web import guards, measures, ops, pages, parts, problems, quality
from services.web.api import blueprint as api
from shared.settings import Settings

FORM_MEMORY = 256 * 1024  # bytes of the text fields of one form
FORM_PARTS = 2_000


def create_app(settings: Settings) -> Flask:
    """Return the application for the settings; call it in the process that serves.

    No server is contacted: the application starts, and says which part is down, whatever is down.
    """
    app = Flask(__name__)
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_upload_bytes,
        MAX_FORM_MEMORY_SIZE=FORM_MEMORY,
        MAX_FORM_PARTS=FORM_PARTS,
        TRAP_HTTP_EXCEPTIONS=False,
        PROPAGATE_EXCEPTIONS=False,
    )
    parts.attach(app, settings)
    measures.attach(app)
    guards.attach(app, settings)
    problems.attach(app)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(quality.blueprint)
    app.register_blueprint(api)
    ops.attach(app, settings)
    return app
