"""The web service: pages, the REST API, health and metrics. It trusts nobody and decodes nothing but thumbnails."""
