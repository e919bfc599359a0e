"""``python -m services.web``: serves the pages and the API in the foreground until SIGTERM."""

from services.web.server import serve
from shared.access.starting import ensure_way_in_soon
from shared.logs import configure
from shared.settings import load_settings
from shared.system_identity import check_own_system_soon

if __name__ == "__main__":
    settings = load_settings()
    configure(settings.log_level)
    check_own_system_soon(settings, settings.broker_url)
    ensure_way_in_soon(settings)
    serve(settings)
