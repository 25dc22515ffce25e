"""Packages that are not always installed: what is missing is said in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from npcorrect.errors import SettingsError


def require(package: str, extra: str, what: str) -> None:
    """Refuse what needs a package that is not installed.

    Raises:
        SettingsError: it is not; says which of this program's extras brings it.
    """
    if find_spec(package) is None:
        raise SettingsError(_sentence(package, extra, what))


@contextmanager
def requiring(extra: str, what: str) -> Iterator[None]:
    """Imports of packages of an extra.

    Raises:
        SettingsError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("npcorrect"):
            raise
        raise SettingsError(_sentence(error.name, extra, what)) from None


def _sentence(package: str, extra: str, what: str) -> str:
    return (
        f"{what} needs the package {package!r}, which is not installed; install it with: "
        f"pip install 'npcorrect[{extra}]'"
    )
