"""The OpenAPI document says of each operation how it may fail before its view is called."""

from services.web.api import api


def test_whoever_sends_a_body_knows_how_it_may_be_refused() -> None:
    for path, methods in api.document()["paths"].items():
        for method, operation in methods.items():
            failures = {400, 413, 415} if "requestBody" in operation else set()
            missing = {str(status) for status in failures | {421, 429}} - operation["responses"].keys()
            assert not missing, (method, path)
            assert "Retry-After" in operation["responses"]["429"]["headers"]
