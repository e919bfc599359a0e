"""Who may do what: by role, by what a collection is open to, by key; and how soon a change counts."""

import time
from dataclasses import replace

import pytest
from argon2 import PasswordHasher

from shared.access import (
    ANONYMOUS,
    OWNER,
    Access,
    AccessState,
    Account,
    Action,
    ApiKey,
    CollectionAccess,
    Grant,
    Requester,
    key_secrets,
    passwords,
)
from shared.access.accounts import account_name
from shared.access.passwords import fits, hash_password
from shared.errors import IndexUnavailable, Invalid

COLLECTIONS = {
    "open": CollectionAccess("public", "private"),
    "given": CollectionAccess("public", "public"),
    "inside": CollectionAccess("shared", "shared"),
}
STATE = AccessState(collections=COLLECTIONS)


def account(*grants: Grant) -> Requester:
    return Requester("account", "ann", grants)


VIEWER, CURATOR, ADMIN = account(Grant("viewer")), account(Grant("curator")), account(Grant("admin"))
NO_ROLE = account()
CURATOR_OF_ART = account(Grant("curator", "art"))
KEY_OF_ART = Requester("key", "0", (Grant("viewer", "art"),))


@pytest.mark.parametrize(
    ("requester", "action", "collection", "expected"),
    [
        (ANONYMOUS, "look", "open", True),
        (ANONYMOUS, "originals", "open", False),
        (ANONYMOUS, "originals", "given", True),
        (ANONYMOUS, "look", "inside", False),
        (ANONYMOUS, "look", "art", False),
        (ANONYMOUS, "inspect", "open", False),
        (NO_ROLE, "look", "inside", True),
        (NO_ROLE, "originals", "inside", True),
        (NO_ROLE, "look", "art", False),
        (NO_ROLE, "inspect", "inside", False),
        (NO_ROLE, "change", "open", False),
        (VIEWER, "look", "art", True),
        (VIEWER, "originals", "art", True),
        (VIEWER, "change", "art", False),
        (CURATOR, "change", "art", True),
        (CURATOR, "administer", "art", False),
        (ADMIN, "administer", None, True),
        (CURATOR_OF_ART, "change", "art", True),
        (CURATOR_OF_ART, "change", "open", False),
        (CURATOR_OF_ART, "look", "other", False),
        (CURATOR_OF_ART, "change", None, False),
        (account(Grant("admin", "art")), "administer", "art", True),
        (account(Grant("admin", "art")), "administer", None, False),
        (KEY_OF_ART, "look", "art", True),
        (KEY_OF_ART, "look", "inside", False),  # a key for some collections is for these alone
        (KEY_OF_ART, "look", "open", True),  # as it is for everybody
        (replace(ANONYMOUS, links=frozenset({"art"})), "look", "art", True),
        (replace(ANONYMOUS, links=frozenset({"art"})), "originals", "art", False),
        (OWNER, "administer", None, True),
    ],
)
def test_who_may_do_what(requester: Requester, action: Action, collection: str | None, expected: bool) -> None:  # noqa: FBT001
    access = Access(lambda: STATE, lambda: "1")
    assert access.may(requester, action, collection) is expected
    if expected:
        assert access.may_somewhere(requester, action)


def test_what_may_be_done_nowhere() -> None:
    access = Access(AccessState, lambda: "1")
    assert not access.may_somewhere(ANONYMOUS, "look")
    assert not access.may_somewhere(VIEWER, "change")
    assert not access.may_somewhere(CURATOR_OF_ART, "administer")


def test_collections_by_role() -> None:
    assert CURATOR.collections_with("viewer") is None
    assert CURATOR_OF_ART.collections_with("viewer") == frozenset({"art"})
    assert CURATOR_OF_ART.collections_with("admin") == frozenset()
    bound = Requester("key", "0", (Grant("admin"),), within=(Grant("curator", "art"),))
    assert bound.collections_with("curator") == frozenset({"art"})
    assert bound.collections_with("admin") == frozenset()


def with_key(key: ApiKey, *accounts: Account) -> Access:
    return Access(lambda: AccessState({one.name: one for one in accounts}, {key.id: key}), lambda: "1")


def test_a_key_goes_as_far_as_its_account_and_ends_with_it() -> None:
    token, name, digest = key_secrets.new_token()
    key = ApiKey(name, digest, (Grant("curator"),), "ann", "", created=0.0, expires=None, by="ann")
    ann = Account("ann", None, (Grant("viewer", "art"),), disabled=False, stamp="1", created=0.0, by="")
    holder = with_key(key, ann).holder_of(token)
    assert holder is not None
    assert holder.has_role("viewer", "art")
    assert not holder.has_role("curator", "art")
    assert not holder.has_role("viewer", "other")
    assert with_key(key, replace(ann, disabled=True)).holder_of(token) is None
    assert with_key(key).holder_of(token) is None


def test_a_key_that_has_ended_or_is_another_is_none() -> None:
    token, name, digest = key_secrets.new_token()
    key = ApiKey(name, digest, (Grant("viewer"),), "", "", created=0.0, expires=time.time() + 60, by="")
    assert with_key(key).holder_of(token) == Requester("key", name, (Grant("viewer"),))
    assert with_key(replace(key, expires=time.time() - 1)).holder_of(token) is None
    assert with_key(replace(key, digest="0" * 64)).holder_of(token) is None
    for other in ("", "ak_", token[:-1], token + "a", token.replace(name, "0" * 12)):
        assert with_key(key).holder_of(other) is None


class Source:
    """What an `Access` reads, with a clock of its own."""

    def __init__(self) -> None:
        self.version, self.reads, self.now = "1", 0, 0.0
        self.is_away = False
        self.access = Access(self.load, self.ask, clock=lambda: self.now)

    def load(self) -> AccessState:
        self.reads += 1
        return AccessState(collections={} if self.version == "1" else COLLECTIONS)

    def ask(self) -> str:
        if self.is_away:
            raise IndexUnavailable("away")
        return self.version


def test_a_change_counts_at_once_and_nothing_is_read_without_one() -> None:
    source = Source()
    assert not source.access.may(ANONYMOUS, "look", "open")
    assert not source.access.may(ANONYMOUS, "look", "open")
    assert source.reads == 1
    source.version = "2"
    assert source.access.may(ANONYMOUS, "look", "open")
    assert source.reads == 2


def test_without_redis_what_was_known_counts_for_a_minute() -> None:
    source = Source()
    source.access.state()
    source.is_away, source.version = True, "2"
    source.now = 59
    assert not source.access.may(ANONYMOUS, "look", "open")
    source.now = 60
    assert source.access.may(ANONYMOUS, "look", "open")
    assert source.reads == 2


def test_passwords() -> None:
    hashed = hash_password("a long password", name="ann")
    assert fits("a long password", hashed)
    assert not fits("a longer password", hashed)
    assert not fits("the password of nobody", None)
    assert not PasswordHasher().check_needs_rehash(passwords._NOBODYS)  # it costs what an account's costs
    assert not fits("a long password", "no hash")
    for bad in ("short", "x" * 1025, "Annabelle-x"):
        with pytest.raises(Invalid):
            hash_password(bad, name="annabelle-x")


def test_names_of_accounts() -> None:
    assert account_name(" Ann@Example.org ") == "ann@example.org"
    for bad in ("", ".", "..", "-a", "a/b", "a b", "ä", "a" * 129, "a\n"):
        with pytest.raises(Invalid):
            account_name(bad if bad != "a\n" else "a\nb")
