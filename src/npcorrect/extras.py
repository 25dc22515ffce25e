"""Packages that are not always installed: what is missing is said in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from npcorrect.errors import SettingsError

EXTRAS = {
    "accelerate": "models",
    "anyio": "mcp",
    "bitsandbytes": "quantize",
    "diffusers": "draw",
    "fastapi": "serve",
    "filelock": "cli",
    "huggingface_hub": "draw",
    "jinja2": "cli",
    "llguidance": "local",
    "matplotlib": "bench",
    "mcp": "mcp",
    "peft": "models",
    "pyarrow": "analysis",
    "python_multipart": "serve",
    "ray": "ray",
    "rich": "cli",
    "safetensors": "draw",
    "scipy": "bench",
    "starlette": "serve",
    "tokenizers": "draw",
    "torch": "draw",
    "tqdm": "train",
    "transformers": "draw",
    "typer": "cli",
    "uvicorn": "serve",
}
"""The extra that brings each package, by the name that it is imported by."""


def require(package: str, what: str) -> None:
    """Refuse what needs a package that is not installed.

    Raises:
        SettingsError: it is not; says which of this program's extras brings it.
    """
    if find_spec(package) is None:
        raise SettingsError(missing(package, what))


@contextmanager
def requiring(what: str) -> Iterator[None]:
    """Imports of packages of an extra.

    Raises:
        SettingsError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = package_of(error)
        if package is None:
            raise
        raise SettingsError(missing(package, what)) from None


def package_of(error: ModuleNotFoundError) -> str | None:
    """The package of an extra that an import did not find; None where it is a fault of ours."""
    package = str(error.name).partition(".")[0]
    return package if package in EXTRAS else None


def missing(package: str, what: str) -> str:
    """The sentence that says which extra brings a package that something needs."""
    return (
        f"{what} needs the package {package!r}, which is not installed; install it with: "
        f"pip install 'npcorrect[{EXTRAS[package]}]'"
    )
