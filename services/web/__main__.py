"""``python -m services.web``: serves the pages and the API in the foreground until SIGTERM."""

from services.web.server import serve
from shared.settings import load_settings

if __name__ == "__main__":
    serve(load_settings())
