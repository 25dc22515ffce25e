"""The settings of models: who plays which role, and the ``[vlm]`` table of the settings file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from npcorrect.errors import SettingsError
from npcorrect.settings import RoleSettings
from npcorrect.vlm.addresses import sendable


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a server, how often to try again, and how much to ask at once.

    ``timeout`` bounds each try in seconds, from the first byte sent to the last received. Between
    tries the wait doubles from ``first_wait``, unless the server names one; a server that asks for
    more than ``longest_wait`` is not waited for.
    """

    tries: int = 4
    timeout: float = 120.0
    first_wait: float = 1.0
    longest_wait: float = 60.0
    parallel: int = 8


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PriceTable(_Table):
    """Money for a million tokens read, and for a million written."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class VLMTable(_Table):
    """The ``[vlm]`` table.

    ``keys`` are secrets under ``openai`` or a server's address, ``prices`` are under a model's name
    as ``--vlm`` takes it. ``key_for`` names the model whose server ``NPC_VLM_KEY`` is for; None for
    the one that plays the roles. ``cache`` is the file of answers. The rest is
    :class:`RetryPolicy`.
    """

    keys: dict[str, SecretStr] = {}
    key_for: str | None = None
    prices: dict[str, PriceTable] = {}
    cache: Path | None = None
    tries: int = Field(default=4, ge=1, le=20)
    timeout: float = Field(default=120.0, gt=0)
    first_wait: float = Field(default=1.0, ge=0)
    longest_wait: float = Field(default=60.0, ge=0)
    parallel: int = Field(default=8, ge=1, le=256)

    @field_validator("keys")
    @classmethod
    def _sendable(cls, keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
        return {
            name: SecretStr(sendable(key.get_secret_value(), f"[vlm.keys] {name!r}"))
            for name, key in keys.items()
        }

    @property
    def retry_policy(self) -> RetryPolicy:
        """The retry policy of requests to servers that these values make; waits are in seconds."""
        return RetryPolicy(
            self.tries, self.timeout, self.first_wait, self.longest_wait, self.parallel
        )


@dataclass(frozen=True)
class VLMSettings:
    """Which models play the roles, and how they are reached.

    ``device`` and ``dtype`` are those of models that run in this process.
    """

    roles: RoleSettings = field(default_factory=RoleSettings)
    table: VLMTable = field(default_factory=VLMTable)
    device: str = "cpu"
    dtype: str = "float32"


def read_table(values: Mapping[str, Any]) -> VLMTable:
    """The ``[vlm]`` table, checked.

    Raises:
        SettingsError: it sets something unknown or out of range. Secrets are not repeated.
    """
    try:
        return VLMTable.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        known = ", ".join(VLMTable.model_fields)
        raise SettingsError(
            f"The settings file's [vlm] table sets {place!r} wrongly ({first['msg']}); "
            f"it knows {known}."
        ) from None
