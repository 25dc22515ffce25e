"""How a run is made: what was asked, of which data, with which code."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import REPEAT_STEP, Benchmark, Sample
from npcorrect.evaluation.methods import find
from npcorrect.settings import DrawSettings, LoadSettings, RoleSettings

SCHEMA_VERSION = 1
_LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "pillow")
_PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Shard:
    """One of ``of`` equal parts of the prompts, from 1."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class RunSettings:
    """All that decides what a run finds. ``limit`` prompts are spread evenly; None takes all.

    ``draw`` holds for every picture, but for its seed and its candidates, which are a method's.
    ``images`` is 0 for pictures that were made elsewhere.
    """

    benchmark: str
    methods: tuple[str, ...]
    images: int = 6
    seeds: int = 1
    limit: int | None = None
    shard: Shard = Shard()
    draw: DrawSettings = field(default_factory=DrawSettings)
    load: LoadSettings = field(default_factory=LoadSettings)
    roles: RoleSettings = field(default_factory=lambda: RoleSettings(cache=False))
    judge: str | None = None

    @property
    def verifier(self) -> str | None:
        """The model that verifies; None for the image model's own."""
        return None if self.roles.embedded_verifier else self.roles.verifier or self.roles.vlm


@dataclass(frozen=True)
class Manifest:
    """Settings, and what they were carried out with."""

    settings: RunSettings
    data: str
    code: str
    versions: Mapping[str, str]
    git: str
    schema_version: int = SCHEMA_VERSION


def validate(settings: RunSettings) -> None:
    """Refuse what makes no sense.

    Raises:
        SettingsError: a method is unknown or named twice, or a number is out of range.
    """
    if not settings.methods or len(set(settings.methods)) < len(settings.methods):
        raise SettingsError(
            f"The methods are {','.join(settings.methods)!r}; name at least one, and each once."
        )
    for name in settings.methods:
        find(name)
    limit = settings.limit if settings.limit is not None else 1
    for what, value in (("images", settings.images), ("seeds", settings.seeds), ("limit", limit)):
        if value < 1:
            raise SettingsError(f"--{what} is {value}; give at least 1.")
    if not 1 <= settings.shard.number <= settings.shard.of:
        raise SettingsError(
            f"--shard is {settings.shard}; give a part and their number, such as 1/4."
        )


def manifest(settings: RunSettings, benchmark: Benchmark) -> Manifest:
    """The manifest of a run that begins now."""
    versions = {"python": platform.python_version()}
    versions |= {name: version(name) for name in ("npcorrect", *_LIBRARIES)}
    return Manifest(settings, benchmark.checksum(), _code(), versions, _git())


def differences(old: Manifest, new: Manifest) -> list[str]:
    """Why two manifests are not of one run; the git state alone is no reason."""
    was, now = _flat(old.settings), _flat(new.settings)
    found = [
        f"{name} {_words(was[name])} instead of {_words(now[name])}"
        for name in was
        if was[name] != now[name]
    ]
    if old.data != new.data:
        found.append("other prompts")
    found += [
        f"{name} {old.versions.get(name)} instead of {new.versions[name]}"
        for name in new.versions
        if old.versions.get(name) != new.versions[name]
    ]
    if old.code != new.code:
        found.append("other code of this program")
    return found


def unsharded(one: Manifest) -> Manifest:
    """The manifest of the whole that a shard is part of."""
    return replace(one, settings=replace(one.settings, shard=Shard()))


def samples(settings: RunSettings, benchmark: Benchmark) -> list[Sample]:
    """The samples of a run: every prompt with each of its seeds, all prompts once first."""
    prompts = benchmark.samples()
    limit = min(settings.limit or len(prompts), len(prompts))
    spread = [prompts[i * len(prompts) // limit] for i in range(limit)]
    mine = spread[settings.shard.number - 1 :: settings.shard.of]
    return [
        replace(sample, seed=sample.seed + REPEAT_STEP * repeat, repeat=repeat)
        for repeat in range(settings.seeds)
        for sample in mine
    ]


def _flat(settings: RunSettings) -> dict[str, Any]:
    """The settings by name, those of its records among them."""
    records = (settings.draw, settings.load, settings.roles)
    flat = {name: value for name, value in vars(settings).items() if value not in records}
    flat["shard"] = str(settings.shard)
    return flat | {name: value for record in records for name, value in vars(record).items()}


def _words(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


@cache
def _code() -> str:
    """SHA-256 over the package, weights included, without what only shows results."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*")):
        name = path.relative_to(_PACKAGE)
        if path.is_file() and "__pycache__" not in name.parts and name.parts[0] != "cli":
            digest.update(
                f"{name.as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
            )
    return digest.hexdigest()


@cache
def _git() -> str:
    """The commit of this source, ``-dirty`` where it was changed; empty outside of git."""
    here = ["git", "-C", str(_PACKAGE)]
    try:
        tracked = subprocess.run(
            [*here, "ls-files", "--error-unmatch", __file__], capture_output=True, check=False
        )
        if tracked.returncode:
            return ""
        described = subprocess.run(
            [*here, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()
