"""Who pays for a question: whoever opened an account around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from npcorrect.records import Usage

T = TypeVar("T")


class Account:
    """Adds up what was asked in its name; ``usage`` is None while nobody has charged anything."""

    def __init__(self) -> None:
        self.usage: Usage | None = None

    def add(self, usage: Usage) -> None:
        """Charge the account with ``usage``, on top of what it was charged before."""
        self.usage = usage if self.usage is None else self.usage + usage

    def joined(self, *others: Account) -> Account:
        """An account of all that this and the others were charged."""
        whole = Account()
        for account in (self, *others):
            if account.usage is not None:
                whole.add(account.usage)
        return whole

    def charged(self, call: Callable[[], T]) -> T:
        """Call what is no role, and charge what it took."""
        with accounting() as account:
            try:
                return call()
            finally:
                if account.usage is not None:
                    self.add(account.usage)

    def role(self, call: Callable[[], T]) -> T:
        """Call a role and charge what it took; one that asks no model is charged a reading."""
        with accounting() as account:
            try:
                return call()
            finally:
                self.add(Usage(readings=1) if account.usage is None else account.usage)


class Payer:
    """Pays for every answer once, also where it was given to somebody else before.

    ``saved_seconds`` are those that such answers took then and do not take now.
    """

    def __init__(self) -> None:
        self._paid: set[str] = set()
        self.saved_seconds = 0.0

    def pays(self, key: str) -> bool:
        """Whether the answer under a key is still to be paid for; from now on it is not."""
        new = key not in self._paid
        self._paid.add(key)
        return new

    def take_saved_seconds(self) -> float:
        """Seconds that known answers have saved since the last call."""
        saved, self.saved_seconds = self.saved_seconds, 0.0
        return saved


_current: ContextVar[Account | None] = ContextVar("account", default=None)
_payer: ContextVar[Payer | None] = ContextVar("payer", default=None)


@contextmanager
def accounting() -> Iterator[Account]:
    """The account of everything that this thread asks inside the ``with`` block."""
    account = Account()
    token = _current.set(account)
    try:
        yield account
    finally:
        _current.reset(token)


def charge(usage: Usage) -> None:
    """Charge the account that this thread has open with ``usage``; without one, do nothing."""
    account = _current.get()
    if account is not None:
        account.add(usage)


@contextmanager
def paying() -> Iterator[Payer]:
    """Who pays in full for what is asked inside the ``with`` block, and in copies of its context.

    Without one, an answer that is known costs nothing.
    """
    payer = Payer()
    token = _payer.set(payer)
    try:
        yield payer
    finally:
        _payer.reset(token)


def price(key: str, took: Usage) -> Usage:
    """What the known answer under a key costs whoever asks now, where it took so much at first."""
    payer = _payer.get()
    if payer is None or not payer.pays(key):
        return Usage()
    payer.saved_seconds += took.seconds
    return took


def bought(key: str) -> None:
    """The answer under a key was just asked for, and is paid for by what it took."""
    if payer := _payer.get():
        payer.pays(key)
