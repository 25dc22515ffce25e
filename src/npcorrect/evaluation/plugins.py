"""What users bring of their own: methods, judges and benchmarks, from a file or from a package.

``my.py:name`` is an object in a Python file; any other name is looked for among the entry points of
installed packages. A name is only taken from the user's own command: the code runs.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from npcorrect.errors import SettingsError


def label(name: str) -> str:
    """What a report calls an object: ``my.py:name`` without its folder, another name as it is."""
    file, _, attribute = name.rpartition(":")
    return f"{Path(file).name}:{attribute}" if in_file(name) else name


def in_file(name: str) -> bool:
    """Whether a name is that of an object in a Python file."""
    file, colon, _ = name.rpartition(":")
    return bool(colon) and file.endswith(".py")


def source_hash(name: str) -> str:
    """The SHA-256 of the Python file that a name is of.

    Raises:
        SettingsError: it cannot be read.
    """
    path = Path(name.rpartition(":")[0])
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SettingsError(f"{str(path)!r} cannot be read ({error}).") from None


def load(name: str, group: str) -> Any | None:
    """The object with this name; None where no file is named and no entry point has the name.

    Raises:
        SettingsError: the file or the object is not there, or loading it fails.
    """
    file, _, attribute = name.rpartition(":")
    if in_file(name):
        return _from_file(Path(file), attribute)
    for entry in entry_points(group=group):
        if entry.name == name:
            return _loaded(name, entry.load)
    return None


def called(name: str, made: Any, *arguments: Any) -> Any:
    """What an object of the user's gives when it is called.

    Raises:
        SettingsError: it cannot be called so.
    """
    return _loaded(name, lambda: made(*arguments))


def _from_file(path: Path, attribute: str) -> Any:
    if not path.is_file():
        raise SettingsError(f"{str(path)!r} is no file; name one as FILE.py:NAME.")
    unique = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    spec = spec_from_file_location(f"npcorrect_user_{unique}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    loader = spec.loader
    _loaded(str(path), lambda: loader.exec_module(module))
    if not hasattr(module, attribute):
        raise SettingsError(f"{str(path)!r} has no {attribute!r}; name one as FILE.py:NAME.")
    return getattr(module, attribute)


def _loaded(name: str, call: Any) -> Any:
    """The result of other people's code, whose exceptions are told in one sentence."""
    try:
        return call()
    except Exception as error:
        raise SettingsError(f"{name!r} cannot be used: {type(error).__name__}: {error}.") from error
