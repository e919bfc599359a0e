"""The WSGI application, for any WSGI server: ``services.web.wsgi:app``."""

from services.web.app import create_app
from shared.logs import configure
from shared.settings import load_settings

_settings = load_settings()
configure(_settings.log_level)
app = create_app(_settings)
