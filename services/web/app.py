"""The application factory."""

from flask import Flask

from services.web import (
    clients,
    metrics,
    operations_routes,
    problems,
    public_address,
    quotas,
    renaming,
    security,
    static_files,
)
from services.web.access import cross_origin
from services.web.access import gate as gating
from services.web.access.gate import Gate
from services.web.access.setting_up import from_clients
from services.web.api import blueprint as api
from services.web.languages import templates
from services.web.pages import (
    access,
    account,
    accounts,
    audit,
    collections,
    duplicates,
    evaluations,
    formatting,
    images,
    jobs,
    judging,
    languages,
    links,
    maps,
    search,
    selection,
    single_sign_on,
    trash,
)
from shared.settings import Settings

FORM_MEMORY = 256 * 1024  # bytes of the text fields of a form
FORM_PARTS = 2_000


def create_app(settings: Settings, *, gate: Gate | None = None) -> Flask:
    """Return the application for the settings; call it in the serving process, after any fork.

    With `gate`, tests say who may do what.
    No server is contacted: the application starts even if every other part is down.
    """
    app = Flask(__name__, static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_upload_bytes,
        MAX_FORM_MEMORY_SIZE=FORM_MEMORY,
        MAX_FORM_PARTS=FORM_PARTS,
        TRAP_HTTP_EXCEPTIONS=False,
        PROPAGATE_EXCEPTIONS=False,
    )
    static_files.attach(app)
    clients.attach(app, settings)
    metrics.attach(app)
    cross_origin.attach(app, settings)
    security.attach(app, settings)
    problems.attach(app)
    renaming.attach(app)
    gating.attach(app, gate or from_clients(app, settings))
    quotas.attach(app, settings, app.extensions[clients.EXTENSION])
    gating.enforce_rules(app)
    templates.attach(app)
    formatting.attach(app)
    app.register_blueprint(search.blueprint)
    app.register_blueprint(collections.blueprint)
    app.register_blueprint(images.blueprint)
    app.register_blueprint(trash.blueprint)
    app.register_blueprint(duplicates.blueprint)
    app.register_blueprint(maps.blueprint)
    app.register_blueprint(evaluations.blueprint)
    app.register_blueprint(jobs.blueprint)
    app.register_blueprint(account.blueprint)
    app.register_blueprint(single_sign_on.blueprint)
    app.register_blueprint(access.blueprint)
    app.register_blueprint(accounts.blueprint)
    app.register_blueprint(audit.blueprint)
    app.register_blueprint(links.blueprint)
    app.register_blueprint(selection.blueprint)
    app.register_blueprint(judging.blueprint)
    app.register_blueprint(languages.blueprint)
    app.register_blueprint(api)
    operations_routes.attach(app, settings)
    gating.gather_rules(app)
    public_address.attach(app, settings)
    return app
