"""How a run is made: what was asked, of which data, with which code."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import REPEAT_STEP, Benchmark, Sample
from npcorrect.evaluation.benchmarks.wording import Wording
from npcorrect.evaluation.methods import find
from npcorrect.evaluation.plugins import in_file, label, source_hash
from npcorrect.settings import DrawSettings, LoadSettings, RoleSettings

SCHEMA_VERSION = 2
GROWING = ("methods", "limit", "seeds")
"""The settings by which a run may grow."""
DRAWN_BY = (
    "steps", "scale", "size", "height", "width", "rule", "negative_prompt", "model", "dtype",
    "quantize", "lora", "family", "base", "revision", "variant",
)  # fmt: skip
"""The settings that a plain picture follows from, beside its prompt and its seed; some rules guide
it where no negative acts."""
MAX_IMAGES, MAX_SEEDS, MAX_LIMIT, MAX_REPEATS = 1000, 1000, 10**7, 100
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
    ``images`` is 0 for pictures that were made elsewhere. ``repeat_judge`` is how often each
    picture is judged, and ``wording`` in whose words.
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
    repeat_judge: int = 1
    wording: Wording = "default"

    @property
    def verifier(self) -> str | None:
        """The model that verifies; None for the image model's own."""
        return None if self.roles.embedded_verifier else self.roles.verifier or self.roles.vlm


@dataclass(frozen=True)
class Manifest:
    """Settings, and what they were carried out with.

    ``weights`` is the hash or the Hub revision of the image model's weights, where it is known.
    ``own`` has the SHA-256 of each Python file of the user's that the settings name.
    """

    settings: RunSettings
    data: str
    code: str
    versions: Mapping[str, str]
    git: str
    schema_version: int = SCHEMA_VERSION
    weights: str = ""
    own: Mapping[str, str] = field(default_factory=dict)

    @property
    def prompts(self) -> tuple[str, str]:
        """What tells its prompts from others: the benchmark, a file by its mere name, and data."""
        return Path(self.settings.benchmark).name, self.data


def validate(settings: RunSettings) -> None:
    """Refuse what makes no sense.

    Raises:
        SettingsError: a method is unknown or named twice, or a number is out of range.
    """
    labels = {label(name) for name in settings.methods}
    if not labels or len(labels) < len(settings.methods):
        raise SettingsError(
            f"The methods are {','.join(settings.methods)!r}; name at least one, and each once."
        )
    for name in settings.methods:
        find(name)
    limit = settings.limit if settings.limit is not None else 1
    for what, value, most in (
        ("images", settings.images, MAX_IMAGES),
        ("seeds", settings.seeds, MAX_SEEDS),
        ("limit", limit, MAX_LIMIT),
        ("repeat-judge", settings.repeat_judge, MAX_REPEATS),
    ):
        if not 1 <= value <= most:
            raise SettingsError(f"--{what} is {value}; give 1 to {most}.")
    if not 1 <= settings.shard.number <= settings.shard.of:
        raise SettingsError(
            f"--shard is {settings.shard}; give a part and their number, such as 1/4."
        )


def fault(one: Manifest) -> str:
    """Why a manifest that came from a file cannot be used; empty where it can."""
    if one.schema_version != SCHEMA_VERSION:
        return f"it has version {one.schema_version}, and this program reads {SCHEMA_VERSION}"
    settings = one.settings
    for what, value, least, most in (
        ("images", settings.images, 0, MAX_IMAGES),
        ("seeds", settings.seeds, 1, MAX_SEEDS),
        ("limit", 1 if settings.limit is None else settings.limit, 1, MAX_LIMIT),
        ("repeat_judge", settings.repeat_judge, 1, MAX_REPEATS),
        ("shard", settings.shard.number, 1, settings.shard.of),
    ):
        if not least <= value <= most:
            return f"its {what} is {value}, not from {least} to {most}"
    return ""


def manifest(settings: RunSettings, benchmark: Benchmark, weights: str = "") -> Manifest:
    """The manifest of a run that begins now."""
    versions = {"python": platform.python_version()}
    for name in ("npcorrect", *_LIBRARIES):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return Manifest(
        settings,
        benchmark.checksum(),
        _code(),
        versions,
        _git(),
        weights=weights,
        own=_own(settings),
    )


def differences(old: Manifest, new: Manifest) -> list[str]:
    """Why two manifests are not of one run.

    The git state alone is no reason, and neither are other methods, more seeds or another limit:
    by these, a run grows.
    """
    different = _other_settings(old, new, lambda name: name not in GROWING)
    if old.data != new.data:
        different.append("other prompts")
    different += [
        f"{name} {old.versions.get(name)} instead of {new.versions[name]}"
        for name in new.versions
        if old.versions.get(name) != new.versions[name]
    ]
    if old.code != new.code:
        different.append("other code of this program")
    different += [
        f"other code in {name}"
        for name in new.own
        if old.own.get(name, new.own[name]) != new.own[name]
    ]
    return different + _other_weights(old, new)


def plain_differences(one: Manifest, other: Manifest) -> list[str]:
    """Why a prompt and a seed do not give the same plain picture in two runs."""
    standing = one.settings.draw.negative_prompt is not None
    names = (*DRAWN_BY, "negative_scale") if standing else DRAWN_BY
    return _other_settings(one, other, names.__contains__) + _other_weights(one, other)


def _other_settings(old: Manifest, new: Manifest, counts: Callable[[str], bool]) -> list[str]:
    was, now = _flat(old.settings), _flat(new.settings)
    return [
        f"{name} {_words(was[name])} instead of {_words(now[name])}"
        for name in was
        if was[name] != now[name] and counts(name)
    ]


def _other_weights(old: Manifest, new: Manifest) -> list[str]:
    differ = old.weights and new.weights and old.weights != new.weights
    return ["other weights of the image model"] if differ else []


def grown(old: Manifest, new: Manifest) -> Manifest:
    """The manifest of a run after it was continued with these settings."""
    was, now = old.settings, new.settings
    methods = tuple(dict.fromkeys((*was.methods, *now.methods)))
    limits = [was.limit, now.limit]
    limit = None if None in limits else max(limit for limit in limits if limit is not None)
    settings = replace(was, methods=methods, limit=limit, seeds=max(was.seeds, now.seeds))
    weights, own = new.weights or old.weights, {**old.own, **new.own}
    return replace(new, settings=settings, weights=weights, own=own)


def unsharded(one: Manifest) -> Manifest:
    """The manifest of the whole that a shard is part of."""
    return replace(one, settings=replace(one.settings, shard=Shard()))


def samples(settings: RunSettings, benchmark: Benchmark) -> list[Sample]:
    """The samples of a run: every prompt with each of its seeds, all prompts once first.

    A limit takes prompts from all over the benchmark, and a greater one takes the same and more.
    """
    prompts = benchmark.samples()
    places = _spread(len(prompts))[: settings.limit]
    part = sorted(places[settings.shard.number - 1 :: settings.shard.of])
    return [
        replace(sample, seed=sample.seed + REPEAT_STEP * repeat, repeat=repeat)
        for repeat in range(settings.seeds)
        for sample in (prompts[place] for place in part)
    ]


def _spread(count: int) -> list[int]:
    """All places below a count, in van der Corput's order: each beginning is spread evenly."""
    bits = max(count - 1, 0).bit_length()
    reversed_places = (int(f"{place:0{bits}b}"[::-1], 2) for place in range(1 << bits))
    return [place for place in reversed_places if place < count]


def _flat(settings: RunSettings) -> dict[str, Any]:
    """The settings by name, those of its records among them."""
    records = (settings.draw, settings.load, settings.roles)
    flat = {name: value for name, value in vars(settings).items() if value not in records}
    flat["shard"] = str(settings.shard)
    return flat | {name: value for record in records for name, value in vars(record).items()}


def _words(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _own(settings: RunSettings) -> dict[str, str]:
    """The hash of each file of the user's code that the settings name, by the file's name."""
    names = (settings.benchmark, *settings.methods, settings.judge or "")
    code = filter(in_file, names)
    return {label(name).partition(":")[0]: source_hash(name) for name in code}


@cache
def _code() -> str:
    """SHA-256 over the package, weights included, without what only shows results."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*")):
        name = path.relative_to(_PACKAGE)
        shows = name.parts[0] == "cli" or name.parts[:2] == ("evaluation", "report")
        if path.is_file() and "__pycache__" not in name.parts and not shows:
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
