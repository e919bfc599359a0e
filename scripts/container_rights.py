"""Writes what each service may do at Redis and at the object store of the containers, as `local/rights.py` has it.

python scripts/container_rights.py
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from local import rights  # noqa: E402 -- from beside this script
from shared.settings import Settings  # noqa: E402


def files() -> dict[str, str]:
    """Return the content of the files in deploy/, by their paths there."""
    passwords = dict.fromkeys(rights.SERVICES, "any")
    users = {"index": rights.index_users(passwords), "broker": rights.broker_users(passwords)}
    bucket = str(Settings.model_fields["s3_bucket"].default)
    actions = {service: json.dumps(rights.store_actions(service, bucket))[1:-1] for service in rights.SERVICES}
    return {
        **{f"redis-users/{name}": "".join(map(_without_password, lines)) for name, lines in users.items()},
        **{
            f"store-users/{service}.json": json.dumps(rights.store_policy(service, bucket), indent=2) + "\n"
            for service in rights.SERVICES
        },
        "store-users/seaweedfs": "".join(f"{service} {its}\n" for service, its in actions.items()),
    }


def _without_password(line: str) -> str:
    """Return a line of Valkey's configuration with the name and the rights of a user."""
    return re.sub(r"^user (\S+) reset on #\w+ ", r"\1 ", line) + "\n"


if __name__ == "__main__":
    for path, text in files().items():
        (ROOT / "deploy" / path).write_text(text, "utf-8")
