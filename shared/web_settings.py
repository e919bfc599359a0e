"""What the environment may set about the page: its listening, limits, users and log-in; a part of `Settings`."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from shared.addresses import PublicUrl, host_names, networks, origins, without_user
from shared.fetching.admitted import places
from shared.group_roles import parse_group_roles

_LISTS: Final[Mapping[str, Callable[[str], Iterable[object]]]] = {
    "cors_origins": origins,
    "trusted_proxies": networks,
    "fetch_allow": places,
    "allowed_hosts": host_names,
}
"""How the settings are read that are lists with commas."""


class WebSettings(BaseSettings):
    """The settings of the page and the REST API, and how commands reach the page of another machine."""

    web_listen: str = Field("127.0.0.1:8080", description="host:port at which the web page and REST API listen.")
    web_threads: int = Field(8, ge=1, le=256, description="Requests that the web service answers at a time.")

    web_connections: int = Field(
        1000,
        ge=16,
        le=20_000,
        description="Connections that the web service holds at a time; idle and slow ones make room for others.",
    )
    web_connections_per_client: int = Field(
        100,
        ge=8,
        description="Connections that the web service holds at a time for one IP address, "
        "or behind a trusted proxy requests.",
    )
    rate_requests: int = Field(
        3000,
        ge=0,
        description="Requests a minute that one account, key or address may send; 0: any number. On one's own machine, "
        "these and the next four are not counted.",
    )
    rate_changes: int = Field(
        300, ge=0, description="Of these, requests that change something, such as uploads; 0: any number."
    )
    jobs_in_flight: int = Field(50, ge=1, description="Jobs that one account, key or address may have under way.")
    images_in_flight: int = Field(5000, ge=1, description="Images in these jobs that are to be added.")
    evaluations_in_flight: int = Field(2, ge=1, description="Evaluations among these jobs.")
    most_stored_bytes: int = Field(
        0, ge=0, description="Bytes of all originals together beyond which no uploads are taken; 0: any number."
    )
    kept_query_days: float = Field(
        7.0,
        ge=0,
        le=3650,
        description="Days for which a picture that was searched for on the page is kept, so that the search has an "
        "address; 0: none is kept.",
    )
    kept_query_bytes: int = Field(
        512 * 2**20,
        ge=0,
        description="Bytes of such pictures that are kept for one account, key or address, half of them at once; "
        "0: none.",
    )
    public_url: str = Field(
        "",
        description="Where the page is for its users, if that is elsewhere: scheme, host and path, such as "
        "`https://archive.example/artseek`.",
    )
    trusted_proxies: str = Field(
        "",
        description="IP addresses and networks, with commas, of the proxies in front of the page: what they say in "
        "`X-Forwarded-For` is believed.",
    )
    allowed_hosts: str = Field(
        "",
        description="Host names, with commas, by which the page may be called beside IP addresses, `localhost` and the "
        "host of `ARTSEEK_PUBLIC_URL`; `*.example.org` stands for all names below.",
    )
    fetch: bool = Field(
        True,  # noqa: FBT003
        description="Whether pictures to search for are fetched by their addresses.",
    )
    fetch_allow: str = Field(
        "",
        description="Hosts with ports, with commas, that pictures may be fetched from though they are private or at "
        "another port than 80, 443, 8080 and 8443, such as `pictures.example:8000`.",
    )
    fetch_seconds: float = Field(15.0, gt=0, le=120, description="Seconds that fetching a picture may take at most.")
    insecure: bool = Field(
        False,  # noqa: FBT003
        description="Whether everybody who reaches the page may do everything, though other machines can reach it.",
    )

    admin_password_file: Path | None = Field(
        None, description="File with the password of the account `admin`, which is made at the start if there is none."
    )

    cors_origins: str = Field(
        "",
        description="Origins, with commas, of other sites whose pages may look at and search public collections, such "
        "as `https://museum.example`.",
    )
    audit_days: float = Field(365.0, ge=1, description="Days for which the audit log is kept.")

    oidc_issuer: str = Field(
        "", description="Address of the OpenID provider that people log in with; unset: they cannot."
    )
    oidc_client_id: str = Field("", description="Name under which Artseek is known to the OpenID provider.")
    oidc_client_secret: SecretStr = Field(
        SecretStr(""), description="Secret of Artseek at the OpenID provider; empty for a public client."
    )
    oidc_scopes: str = Field("openid profile email", description="What the OpenID provider is asked for.")
    oidc_name_claim: str = Field("preferred_username", description="Claim that accounts are named by.")
    oidc_groups_claim: str = Field("groups", description="Claim with the groups of somebody.")
    proxy_user_header: str = Field(
        "",
        description="Header in which a proxy of `ARTSEEK_TRUSTED_PROXIES` says who sends a request, such as "
        "`X-Forwarded-User`; unset: none is believed.",
    )
    proxy_groups_header: str = Field(
        "", description="Header in which that proxy says the groups of somebody, with commas between them."
    )
    group_roles: str = Field(
        "",
        description="Roles of the groups that an OpenID provider or proxy tells: `GROUP=ROLE` or "
        "`GROUP=ROLE:COLLECTION`, with `;` between them. Unset: roles are given here.",
    )

    url: str = Field(
        "",
        description="Where the page of a system on another machine is, for [the commands that work from "
        "afar](security.md#api-keys); unset: the system of this machine.",
    )
    key: SecretStr = Field(SecretStr(""), description="API key for the system of `ARTSEEK_URL`.")
    url_ca_file: Path | None = Field(
        None, description="Certificates of the authorities that the one of `ARTSEEK_URL` may come from, as PEM."
    )

    @field_validator("public_url", "url")
    @classmethod
    def _is_public_url(cls, text: str) -> str:
        return str(PublicUrl.parse(text)) if text else ""

    @field_validator("oidc_issuer")
    @classmethod
    def _has_no_user(cls, text: str) -> str:
        if without_user(text) != text:
            raise ValueError(f"{without_user(text)!r} has a user; leave it out, messages show this address")
        return text

    @field_validator("key")
    @classmethod
    def _is_one_word(cls, key: SecretStr) -> SecretStr:
        text = key.get_secret_value().strip()
        if not all("!" <= character <= "~" for character in text):
            raise ValueError("this is no API key: expected one word, as `artseek keys create` prints it")
        return SecretStr(text)

    @field_validator("group_roles")
    @classmethod
    def _are_group_roles(cls, text: str) -> str:
        parse_group_roles(text)
        return text

    @field_validator(*_LISTS)
    @classmethod
    def _is_list(cls, text: str, info: ValidationInfo) -> str:
        return ",".join(map(str, _LISTS[str(info.field_name)](text)))
