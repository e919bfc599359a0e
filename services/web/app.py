"""The application factory."""

from flask import Flask

from services.web import clients, metrics, operations_routes, problems, security
from services.web.api import blueprint as api
from services.web.pages import collections, evaluations, formatting, search
from shared.settings import Settings

FORM_MEMORY = 256 * 1024  # bytes of the text fields of a form
FORM_PARTS = 2_000


def create_app(settings: Settings) -> Flask:
    """Return the application for the settings; call it in the serving process, after any fork.

    No server is contacted: the application starts even if every other part is down.
    """
    app = Flask(__name__)
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_upload_bytes,
        MAX_FORM_MEMORY_SIZE=FORM_MEMORY,
        MAX_FORM_PARTS=FORM_PARTS,
        TRAP_HTTP_EXCEPTIONS=False,
        PROPAGATE_EXCEPTIONS=False,
    )
    clients.attach(app, settings)
    metrics.attach(app)
    security.attach(app, settings)
    problems.attach(app)
    formatting.attach(app)
    app.register_blueprint(search.blueprint)
    app.register_blueprint(collections.blueprint)
    app.register_blueprint(evaluations.blueprint)
    app.register_blueprint(api)
    operations_routes.attach(app, settings)
    return app
