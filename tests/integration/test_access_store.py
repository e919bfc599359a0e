"""Accounts, keys and the access of collections in a real object store and Valkey."""

import time
from typing import TYPE_CHECKING

import pytest

from shared.access import AccessStore, Account, CollectionAccess, Grant, access_store
from shared.access.passwords import fits
from shared.errors import Invalid, NotFound
from shared.state import Client, State
from shared.storage import access_layout
from shared.storage.object_store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable

PASSWORD = "a long password"


@pytest.fixture
def access(store: ObjectStore, redis: Client) -> AccessStore:
    store.ensure_bucket()
    return AccessStore(store, State.of(redis))


@pytest.fixture
def other(store: ObjectStore, redis: Client) -> AccessStore:
    """The same as another process sees it."""
    return AccessStore(store, State.of(redis))


def test_what_one_process_changes_another_sees(access: AccessStore, other: AccessStore, redis: Client) -> None:
    marks = State.of(redis).access_marks
    assert other.load().accounts == {}
    versions = [marks.version()]

    def changed() -> None:
        versions.append(marks.version())
        assert len(set(versions)) == len(versions)
        assert access.load() == other.load()

    made = access.add_account("Ann@example.org", (Grant("curator", "art"),), password=PASSWORD, by="test")
    changed()
    assert other.load().accounts == {"ann@example.org": made}
    assert fits(PASSWORD, made.password)
    assert PASSWORD not in repr(access.load())
    stamps = {made.stamp}
    changes: list[Callable[[], Account]] = [
        lambda: access.set_password("ann@example.org", PASSWORD + "!"),
        lambda: access.set_grants("ann@example.org", (Grant("viewer"),)),
        lambda: access.set_disabled("ann@example.org", disabled=True),
        lambda: access.end_sessions("ann@example.org"),
    ]
    for change in changes:
        stamps.add(change().stamp)
        changed()
    assert len(stamps) == 5  # sessions end by each
    key, token = access.create_key((Grant("viewer"),), account="ann@example.org", days=1, note="laptop", by="ann")
    changed()
    assert other.load().keys == {key.id: key}
    assert token.split("_", 2)[2] not in repr(access.load())
    access.remove_account("ann@example.org")
    changed()
    assert (other.load().accounts, other.load().keys) == ({}, {})
    with pytest.raises(NotFound):
        access.account("ann@example.org")


def test_what_does_not_fit_is_refused(access: AccessStore) -> None:
    access.add_account("ann", (), password=PASSWORD, by="test")
    with pytest.raises(Invalid, match="already"):
        access.add_account("ANN", (), password=PASSWORD, by="test")
    with pytest.raises(Invalid):
        access.create_key((Grant("viewer"),), days=0, by="test")
    for unknown in ("000000000000", "../accounts/ann"):
        with pytest.raises(NotFound):
            access.revoke_key(unknown)


def test_an_account_has_so_many_keys_and_those_that_have_ended_go(
    access: AccessStore, redis: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = State.of(redis).access_marks

    def make(account: str = "ann", days: float | None = None) -> str:
        return access.create_key((Grant("viewer"),), account=account, days=days, by="test")[0].id

    short, first, second = make(days=1), make(), make()
    monkeypatch.setattr(access_store, "MOST_KEYS", 2)
    marks.note_use(short)
    with pytest.raises(Invalid, match=r"'ann' has 3 API keys, at most 2: revoke some"):
        make()
    kept = {short, first, second}  # which were made when more were taken
    assert access.load().keys.keys() == kept
    kept |= {make("bob"), *(make("") for _ in range(3))}  # those of the operator are not counted
    now = time.time
    monkeypatch.setattr("shared.access.access_store.time.time", lambda: now() + 2 * 86_400)
    with pytest.raises(Invalid):
        make()
    access.revoke_key(first)
    kept = kept - {short, first} | {make()}
    assert access.load().keys.keys() == kept
    assert marks.uses() == {}


def test_a_collection_has_so_many_share_links(access: AccessStore, monkeypatch: pytest.MonkeyPatch) -> None:
    access.add_account("ann", (Grant("curator"),), password=PASSWORD, by="test")
    monkeypatch.setattr(access_store, "MOST_LINKS", 2)
    made = [access.create_link("art", account=account, days=1) for account in ("ann", "")]
    with pytest.raises(Invalid, match=r"'art' has 2 share links, at most 2: revoke some"):
        access.create_link("art", days=1)
    access.create_link("maps", days=1)
    access.set_grants("ann", ())  # her link opens nothing and is not listed, so that nobody can revoke it
    access.create_link("art", days=1)
    with pytest.raises(Invalid):
        access.create_link("art", days=1)
    access.revoke_link(made[1].id)
    access.create_link("art", days=1)


def test_only_what_has_changed_is_read_again(
    access: AccessStore, other: AccessStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "bob"):
        access.add_account(name, (), password=PASSWORD, by="test")
    other.load()
    read: list[str] = []
    get = ObjectStore.get

    def noted(store: ObjectStore, key: str) -> bytes:
        read.append(key)
        return get(store, key)

    monkeypatch.setattr(ObjectStore, "get", noted)
    assert other.load().accounts.keys() == {"ann", "bob"}
    assert read == []
    access.set_grants("ann", (Grant("viewer"),))
    del read[:]
    assert other.load().accounts["ann"].grants == (Grant("viewer"),)
    assert read == [access_layout.account_key("ann")]
    access.remove_account("bob")
    del read[:]
    assert other.load().accounts.keys() == {"ann"}
    assert read == []


def test_access_follows_a_collection_to_its_new_name_and_goes_with_it(access: AccessStore) -> None:
    access.set_collection("art", CollectionAccess("public", "shared"))
    access.add_account("ann", (Grant("curator", "art"), Grant("viewer", "maps")), password=PASSWORD, by="test")
    key, _ = access.create_key((Grant("viewer", "art"),), by="test")
    for _ in range(2):  # a rename may be done twice
        access.rename_collection("art", "paintings")
    state = access.load()
    assert state.collections == {"paintings": CollectionAccess("public", "shared")}
    assert state.accounts["ann"].grants == (Grant("curator", "paintings"), Grant("viewer", "maps"))
    assert state.keys[key.id].grants == (Grant("viewer", "paintings"),)
    access.forget_collection("paintings")
    state = access.load()
    assert state.collections == {}
    assert state.accounts["ann"].grants == (Grant("viewer", "maps"),)
    assert state.keys[key.id].grants == ()


def test_what_cannot_be_read_lets_nobody_in(access: AccessStore, store: ObjectStore) -> None:
    access.add_account("ann", (), password=PASSWORD, by="test")
    access.set_collection("art", CollectionAccess("public", "public"))
    store.put(
        access_layout.collection_access_key("art"), b'{"format": 99, "visibility": "public", "originals": "public"}'
    )
    store.put(access_layout.account_key("bob"), b"{")
    state = access.load()
    assert (list(state.accounts), state.collections) == (["ann"], {})


def test_the_secret_is_made_once(access: AccessStore, other: AccessStore) -> None:
    assert access.signing_secrets() == other.signing_secrets()
    assert len(access.signing_secrets()[0]) == 64
