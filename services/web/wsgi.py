"""The WSGI application, for any WSGI server: ``services.web.wsgi:app``."""

from services.web.app import create_app
from shared.access.starting import ensure_way_in_soon
from shared.logs import configure
from shared.settings import load_settings
from shared.system_identity import check_own_system_soon

_settings = load_settings()
configure(_settings.log_level)
check_own_system_soon(_settings, _settings.broker_url)
ensure_way_in_soon(_settings)
app = create_app(_settings)
