"""From settings to roles: the one place that knows which class stands behind a name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from re import fullmatch
from typing import Any, TypeVar

from npcorrect.card import Card, CardVLM, Resident
from npcorrect.errors import SettingsError
from npcorrect.extras import require
from npcorrect.proposing import RuleProposer
from npcorrect.settings import RoleSettings, check
from npcorrect.vlm import addresses
from npcorrect.vlm.base import VLM, Memory
from npcorrect.vlm.budget import Budget, Price, Till
from npcorrect.vlm.cache import AnswerFile, AnswerMemory, CachedVLM
from npcorrect.vlm.grammar import GrammarChecklister
from npcorrect.vlm.model_roles import (
    FirstUnderstood,
    VLMCaptioner,
    VLMChecklister,
    VLMProposer,
)
from npcorrect.vlm.own import OwnVLM
from npcorrect.vlm.roles import Checklister, Proposer, Roles
from npcorrect.vlm.settings import VLMSettings
from npcorrect.vlm.verifier import Questions, VLMVerifier

T = TypeVar("T")
ROLES = ("checklister", "verifier", "captioner", "proposer")
_log = logging.getLogger(__name__)


@contextmanager
def roles(
    settings: VLMSettings, embedded: Roles | None = None, card: Card | None = None
) -> Generator[Roles]:
    """The roles that the settings ask for, let go of at the end.

    ``embedded`` are the image model's own roles, where it has any; they play what no model is named
    for, and what the settings call ``embedded``. Prompts are read by their checklister, or by the
    grammar and, where it does not understand, by the model, unless the settings name another.
    Models of this machine take turns on a ``card`` with the image model.

    Raises:
        SettingsError: a name, key or price is missing, or a value cannot work.
        ModelError: a model that was never asked before cannot be.
    """
    with ExitStack() as stack:
        yield _Builder(settings, embedded, stack, card).roles()


@contextmanager
def model(name: str, settings: VLMSettings) -> Generator[VLM]:
    """One model by name, with the cache, prices and budget of the settings: for judges.

    Raises:
        SettingsError: see :func:`roles`.
    """
    with ExitStack() as stack:
        yield _Builder(settings, None, stack).vlm(name)


def check_roles(settings: VLMSettings, has_embedded: bool) -> None:
    """Refuse settings by which no role could be opened; asks nobody.

    Raises:
        SettingsError: a name, key or price is missing or not understood, or a package is not
            installed.
    """
    check(settings.roles)
    budget_of(settings.roles)
    _refuse_idle(settings.roles)
    with ExitStack() as stack:
        builder = _Builder(settings, None, stack)
        for role in ROLES:
            builder.check(role, has_embedded)


def _refuse_idle(roles: RoleSettings) -> None:
    """Refuse what says how models are asked, where none is.

    Raises:
        SettingsError: a setting would have no effect.
    """
    named = {role: getattr(roles, role) or roles.vlm for role in ROLES}
    asked = [name for name in named.values() if name not in (None, "embedded", "grammar", "rules")]
    looks = named["verifier"] in asked
    given = {
        "votes": roles.votes != 1 and not looks,
        "questions": roles.questions != "together" and not looks,
        "budget": roles.budget is not None and not asked,
    }
    if idle := [name for name, refused in given.items() if refused]:
        raise SettingsError(
            f"The setting {idle[0]!r} is {getattr(roles, idle[0])!r}, and no model is asked; leave "
            "it out, or name a model with --vlm."
        )


def played_by(vlm: VLM, settings: RoleSettings | None = None) -> Roles:
    """All four roles played by one model, which is asked nothing twice.

    Prompts that the grammar reads are not asked about.
    """
    vlm = CachedVLM(OwnVLM(vlm), AnswerMemory())
    checklister = FirstUnderstood(GrammarChecklister(), VLMChecklister(vlm))
    verifier = _verifier(vlm, settings or RoleSettings())
    return Roles(checklister, verifier, VLMCaptioner(vlm), VLMProposer(vlm), overlap=vlm.remote)


def memory_of(settings: VLMSettings) -> Memory:
    """Where answers, and what servers can, are kept: for this run, or in a file too."""
    if not settings.roles.cache:
        return AnswerMemory()
    from platformdirs import user_cache_path

    path = settings.table.cache
    return AnswerFile((path or user_cache_path("npcorrect") / "answers.sqlite").expanduser())


def budget_of(roles: RoleSettings) -> Budget | None:
    """The budget that the settings name.

    Raises:
        SettingsError: it is not understood.
    """
    return Budget.parse(roles.budget) if roles.budget is not None else None


def _verifier(vlm: VLM, settings: RoleSettings) -> VLMVerifier:
    questions: Questions = "single" if settings.questions == "single" else "together"
    return VLMVerifier(vlm, settings.votes, questions)


class _Builder:
    """Builds each model once."""

    def __init__(
        self,
        settings: VLMSettings,
        embedded: Roles | None,
        stack: ExitStack,
        card: Card | None = None,
    ) -> None:
        check(settings.roles)
        self._settings, self._embedded, self._stack = settings, embedded, stack
        self._card, self._turns = card, False
        self._budget = budget_of(settings.roles)
        self._built: dict[str, VLM] = {}

    def roles(self) -> Roles:
        """All four roles by the settings, with their models connected.

        Raises:
            InputError: a role has no model, or its model cannot be asked.
        """
        asking = partial(_verifier, settings=self._settings.roles)
        verifier = self._role("verifier", lambda r: r.verifier, asking)
        waits = any(vlm.remote for vlm in self._built.values())
        captioner = self._role("captioner", lambda r: r.captioner, VLMCaptioner)
        roles = Roles(self._checklister(), verifier, captioner, self._proposer())
        return replace(roles, overlap=waits and not self._turns, turns=self._turns)

    def vlm(self, name: str) -> VLM:
        """The connected model of a name; names of one identity share one model and its answers.

        Raises:
            InputError: the model cannot be asked.
            BudgetError: the budget does not allow finding out.
        """
        identity = addresses.identity(name)
        if identity not in self._built:
            vlm = self._taking_turns(self._open(name))
            vlm.connect()
            self._built[identity] = CachedVLM(vlm, self._memory)
        return self._built[identity]

    def _taking_turns(self, vlm: VLM) -> VLM:
        """The model, with its turns on the card where it works there too and can leave it."""
        resident = self._resident(vlm) if self._card else None
        if self._card is None or resident is None:
            return vlm
        self._turns = True
        return CardVLM(vlm, resident, self._card)

    def _resident(self, vlm: VLM) -> Resident | None:
        """What leaves the card for a model; None where it is on none of this machine, or stays."""
        if not vlm.remote:
            local: Any = vlm
            resident: Resident = local
            return resident
        server = addresses.server(vlm.name)
        if not server.is_here:
            return None
        from npcorrect.vlm.ollama import Ollama

        ollama = Ollama(server, vlm.name)
        if ollama.answers():
            return ollama
        _log.warning(
            "%s keeps its memory while pictures are drawn: only Ollama's models and local: ones "
            "leave the card.",
            vlm.name,
        )
        return None

    def check(self, role: str, has_embedded: bool) -> None:
        """Refuse a role that could not be opened, without asking anyone.

        Raises:
            SettingsError: the role has no model, or its model lacks a key, a price or a package, or
                has a name that is not understood.
        """
        roles = self._settings.roles
        name = getattr(roles, role) or roles.vlm
        if name == {"checklister": "grammar", "proposer": "rules"}.get(role):
            return
        if has_embedded and name in (None, "embedded"):
            return
        if name is None or name == "embedded":
            raise SettingsError(f"The {role} has no model; name one with --vlm or --{role}.")
        self._price(name)
        if name.startswith("local:"):
            require("llguidance", f"The model {name!r}")
            _refuse_missing(name.removeprefix("local:"))
        else:
            self._server(name)

    def _checklister(self) -> Checklister:
        name = self._settings.roles.checklister
        if name == "grammar":
            return GrammarChecklister()
        if name is None and self._embedded:
            return self._embedded.checklister
        asking = self._role("checklister", lambda r: r.checklister, VLMChecklister)
        return asking if name else FirstUnderstood(GrammarChecklister(), asking)

    def _proposer(self) -> Proposer:
        if self._settings.roles.proposer == "rules":
            return RuleProposer()
        return self._role("proposer", lambda r: r.proposer, VLMProposer)

    def _role(
        self, role: str, embedded_role: Callable[[Roles], T], asking: Callable[[VLM], T]
    ) -> T:
        name = getattr(self._settings.roles, role) or self._settings.roles.vlm
        if self._embedded and name in (None, "embedded"):
            return embedded_role(self._embedded)
        if name is None or name == "embedded":
            raise SettingsError(f"The {role} has no model; name one with --vlm or --{role}.")
        return asking(self.vlm(name))

    def _open(self, name: str) -> VLM:
        till = Till(self._price(name), self._budget)
        if name.startswith("local:"):
            require("llguidance", f"The model {name!r}")
            from npcorrect.vlm.local import LocalVLM

            settings = self._settings
            return LocalVLM.load(name[6:], settings.device, settings.dtype, till=till)
        server, key = self._server(name)
        from npcorrect.vlm.openai import OpenAIVLM

        vlm = OpenAIVLM(
            server,
            key,
            name=name,
            retry_policy=self._settings.table.retry_policy,
            till=till,
            memory=self._memory,
        )
        self._stack.callback(vlm.close)
        return vlm

    def _server(self, name: str) -> tuple[addresses.Server, str]:
        """The server that a name stands for, and its key."""
        server = addresses.server(name)
        table, vlm = self._settings.table, self._settings.roles.vlm
        named = vlm if table.key_for is None else table.key_for
        key = addresses.key_for(server, table.keys, named)
        return server, key

    def _price(self, name: str) -> Price | None:
        prices = self._settings.table.prices
        listed = {addresses.identity(known): price for known, price in prices.items()}
        price = listed.get(addresses.identity(name))
        if price is None and self._budget and self._budget.unit == "money":
            raise SettingsError(
                f"A budget in money needs a price for {name!r}; add it to the settings file as "
                f'[vlm.prices."{name}"] with input and output for a million tokens, or give the '
                "budget in calls or tokens."
            )
        return Price(price.input, price.output) if price else None

    @cached_property
    def _memory(self) -> Memory:
        return memory_of(self._settings)


def _refuse_missing(identifier: str) -> None:
    """Refuse the path of a folder that is not there; other names may be of the hub.

    Raises:
        SettingsError: it is one.
    """
    path = Path(identifier)
    hub = fullmatch(r"[\w.-]+(/[\w.-]+)?", identifier) and not identifier.startswith(".")
    if not identifier.strip() or not (path.is_dir() or hub):
        raise SettingsError(
            f"There is no folder {identifier[:200]!r} with a model; check the path, or name one "
            "of the Hugging Face hub as 'local:OWNER/NAME'."
        )
