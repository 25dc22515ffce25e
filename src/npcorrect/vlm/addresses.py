"""Names of models, addresses of servers, and the keys that go there.

``openai:gpt-4.1`` is a model of OpenAI, ``http://localhost:8000/v1#model`` one on any server that
speaks as OpenAI's does, ``local:ID`` one in this process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from posixpath import normpath
from socket import inet_aton
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pydantic import SecretStr

from npcorrect.errors import SettingsError

OPENAI = "https://api.openai.com/v1"
NAMES = (
    "a model is named 'openai:gpt-4.1', 'http://localhost:8000/v1#model' for a server, or "
    "'local:ID' for one of the Hugging Face hub or a folder"
)
_PORTS = {"http": 80, "https": 443}
_LOOPBACK = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
IMAGE_NAMES = (
    "a server that draws is named by its address, 'http://127.0.0.1:7860' for A1111's API, or "
    "'http://localhost:8000/v1#model' for OpenAI's, which needs a model"
)
_ENDPOINTS = ("/chat/completions", "/images/generations", "/images/edits", "/sdapi/v1")
"""Ends of addresses that name what is asked there."""


@dataclass(frozen=True)
class Server:
    """A model on a server. ``address`` is as the user wrote it, without the endpoint's own name."""

    address: str
    model: str

    @property
    def identity(self) -> str:
        """One spelling for all ways to write the same model."""
        return f"{normal(self.address)}#{self.model}"

    @property
    def is_openai(self) -> bool:
        """Whether the address is that of OpenAI's own API, however it is spelled."""
        return normal(self.address) == OPENAI

    @property
    def is_here(self) -> bool:
        """Whether the server is on this machine, by its address."""
        parts = _split(normal(self.address))
        return parts is not None and parts.hostname == "localhost"


def server(name: str) -> Server:
    """The server and the model that a name stands for.

    Raises:
        SettingsError: it is not understood, or holds a key. Nothing secret is repeated.
    """
    if name.startswith("openai:") and name.removeprefix("openai:").strip():
        return Server(OPENAI, name.removeprefix("openai:"))
    made = _server(name, NAMES)
    if not made.model.strip():
        raise SettingsError(f"The model {name!r} is not understood; {NAMES}.")
    return made


def is_server(name: str) -> bool:
    """Whether a model's name is that of one on a server."""
    return name.lower().startswith(("http://", "https://", "openai:"))


def image_server(name: str) -> Server:
    """The server that draws, and its model; "" for the one that it has loaded.

    Raises:
        SettingsError: it is not understood, or holds a key. Nothing secret is repeated.
    """
    made = server(name) if name.startswith("openai:") else _server(name, IMAGE_NAMES)
    if speaks_openai(made) and not made.model.strip():
        raise SettingsError(f"The model {name!r} is not understood; {IMAGE_NAMES}.")
    return made


def speaks_openai(model: Server) -> bool:
    """Whether an address is one of OpenAI's API, which ends in ``/v1``."""
    return normal(model.address).endswith("/v1")


def _server(name: str, names: str) -> Server:
    address, _, model = name.partition("#")
    parts = _split(address)
    if parts is None or parts.scheme not in _PORTS:
        shown = name.split("@")[-1].partition("?")[0]
        raise SettingsError(f"The model {shown!r} is not understood; {names}.")
    if parts.username is not None or parts.query or "?" in model:
        raise SettingsError(
            f"The address of {parts.hostname!r} holds a key; put it in NPC_VLM_KEY or in "
            "the settings file's [vlm.keys] table."
        )
    return Server(_without_endpoint(address.rstrip("/?")), model)


def identity(name: str) -> str:
    """One spelling for all ways to name the same model; other names are as they are."""
    try:
        return server(name).identity
    except SettingsError:
        return name


def normal(address: str) -> str:
    """One spelling for all ways to write the same address; others are as they are.

    Upper case, the usual port, slashes at the end, the endpoint's own name, dots and escapes in the
    path, ways to write a number, and the names of this machine do not count.
    """
    parts = _split(address)
    if parts is None or parts.scheme not in _PORTS:
        return address
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    path = _without_endpoint(normpath(f"/{quote(unquote(parts.path)).strip('/')}"))
    return f"{parts.scheme}://{_host(parts.hostname or '')}{port}{path}"


def key_for(
    model: Server,
    keys: Mapping[str, SecretStr],
    named: str | None,
    variable: str = "NPC_VLM_KEY",
) -> str:
    """The key of a server, from the environment or the user's own table of keys; "" for none.

    ``OPENAI_API_KEY`` goes to OpenAI alone, the ``variable`` to the server of the model that the
    user ``named`` alone.

    Raises:
        SettingsError: OpenAI has no key, or a key cannot be sent.
    """
    listed = {normal(OPENAI if name == "openai" else name): name for name in keys}
    name = listed.get(normal(model.address))
    if model.is_openai:
        sources = [("OPENAI_API_KEY", os.environ.get("OPENAI_API_KEY", ""))]
    else:
        meant = named is not None and _same_server(named, model)
        sources = [(variable, os.environ.get(variable, "") if meant else "")]
    if name is not None:
        sources.append((f"[vlm.keys] {name!r}", keys[name].get_secret_value()))
    key = next((key for source, text in sources if (key := sendable(text, source))), "")
    if model.is_openai and not key:
        raise SettingsError(
            f"The model 'openai:{model.model}' needs a key; set OPENAI_API_KEY, or openai in the "
            "settings file's [vlm.keys] table."
        )
    return key


def sendable(key: str, source: str) -> str:
    """A key, or another value for a header, without blanks around it.

    Raises:
        SettingsError: it holds what no header can carry. The value is not repeated.
    """
    key = key.strip().strip("\ufeff\u200b").strip()
    for place, character in enumerate(key, 1):
        if not "!" <= character <= "~":
            raise SettingsError(
                f"What {source} holds cannot be sent: its character {place} of {len(key)} is no "
                "plain ASCII letter, digit or sign; copy it again, without quotes or breaks."
            )
    return key


def _same_server(name: str, model: Server) -> bool:
    return normal(identity(name).partition("#")[0]) == normal(model.address)


def _without_endpoint(address: str) -> str:
    address = address.rstrip("/")
    for endpoint in _ENDPOINTS:
        address = address.removesuffix(endpoint)
    return address.rstrip("/")


def _host(name: str) -> str:
    """One spelling of a host's name or number."""
    name = name.rstrip(".")
    try:
        number = ip_address(name if ":" in name else inet_aton(name))
    except (ValueError, OSError):
        return "localhost" if name in _LOOPBACK else name
    number = getattr(number, "ipv4_mapped", None) or number
    if number.is_loopback or number.is_unspecified:
        return "localhost"
    return f"[{number}]" if number.version == 6 else str(number)


def _split(address: str) -> SplitResult | None:
    """The parts of an address with a host, or None where it is no such address."""
    try:
        parts = urlsplit(address)
        _ = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        return None
    printable = all("!" <= character <= "~" for character in address)
    return parts if parts.hostname and printable else None
