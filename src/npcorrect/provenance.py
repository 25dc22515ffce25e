"""How pictures were made and judged: what is needed to do both again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from hashlib import file_digest, sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from re import fullmatch
from typing import Any

from npcorrect.errors import ModelError
from npcorrect.settings import LoadSettings, RoleSettings, lora_weight

PACKAGES = (
    "npcorrect", "torch", "diffusers", "transformers", "pillow", "peft", "bitsandbytes",
    "llguidance",
)  # fmt: skip
"""The packages whose versions decide over pictures and verdicts."""
SAMPLERS = {
    "DDIMScheduler": "DDIM",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "DPMSolverSDEScheduler": "DPM++ SDE",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "EulerDiscreteScheduler": "Euler",
    "FlowMatchEulerDiscreteScheduler": "Euler",
    "FlowMatchHeunDiscreteScheduler": "Heun",
    "HeunDiscreteScheduler": "Heun",
    "LMSDiscreteScheduler": "LMS",
    "PNDMScheduler": "PLMS",
    "UniPCMultistepScheduler": "UniPC",
}
"""What A1111 calls the samplers of diffusers' schedulers."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How the pictures of a correction are made and judged.

    ``load`` and ``roles`` are the settings as they were asked for. What became of them is empty as
    long as no model is loaded: ``device`` and ``dtype`` as chosen, ``revision``, the commit of a
    Hub id, or of the one that lends a file what it lacks, ``weights``, the SHA-256 of a file, or of
    the names and hashes of a folder's files, ``loras``, a commit or hash for each LoRA, ``vlms``,
    one for each VLM in this process, diffusers' name of the ``scheduler``, and the ``versions`` of
    packages.
    """

    load: LoadSettings = field(default_factory=LoadSettings)
    roles: RoleSettings = field(default_factory=RoleSettings)
    device: str = ""
    dtype: str = ""
    revision: str = ""
    weights: str = ""
    loras: tuple[str, ...] = ()
    vlms: Mapping[str, str] = field(default_factory=dict)
    scheduler: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def sampler(self) -> str:
        """A1111's name of the scheduler, or diffusers' where it has none."""
        return SAMPLERS.get(self.scheduler, self.scheduler)

    def asks_the_same(self, other: Provenance) -> bool:
        """Whether both were asked for alike; budgets and caches change no picture."""
        roles = (replace(one.roles, budget=None, cache=True) for one in (self, other))
        return self.load == other.load and next(roles) == next(roles)

    def differences(self, other: Provenance) -> tuple[str, ...]:
        """What may change pictures and is not the same in another, with both values."""
        names = ("device", "dtype", "revision", "weights", "loras", "scheduler")
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        packages = sorted({*self.versions} | {*other.versions})
        pairs += [
            (p, self.versions.get(p, "none"), other.versions.get(p, "none")) for p in packages
        ]
        return tuple(f"{name}: {old}, now {new}" for name, old, new in pairs if old != new)


def provenance(
    model: Any, load: LoadSettings, roles: RoleSettings, weights: Path, base: str = ""
) -> Provenance:
    """The provenance of what a loaded image model draws; hashes every file of its ``weights``.

    ``base`` is the Hub id that lends a single file what it lacks.

    Raises:
        ModelError: a file of weights cannot be read.
    """
    pipeline = getattr(model, "pipeline", None)
    scheduler = getattr(pipeline, "scheduler", None)
    return Provenance(
        load=load,
        roles=roles,
        device=str(getattr(pipeline, "_execution_device", "")),
        dtype=str(getattr(pipeline, "dtype", "")).removeprefix("torch."),
        revision=_commit(base or load.model, load.revision) if base or not weights.exists() else "",
        weights=_hash(weights),
        loras=tuple(_known(lora_weight(one)[0]) for one in load.lora),
        vlms={f"local:{place}": _known(place) for place in _local(roles)},
        scheduler=type(scheduler).__name__ if scheduler is not None else "",
        versions=_versions(),
    )


@cache
def _versions() -> dict[str, str]:
    known = {"python": python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            known[name] = version(name)
    return known


def _known(place: str) -> str:
    """The hash of a file or folder, or the commit of a Hub id."""
    return _hash(Path(place)) or _commit(place, None)


def _local(roles: RoleSettings) -> dict[str, None]:
    """The places of the models that play roles in this process, each once."""
    names = (roles.vlm, roles.checklister, roles.verifier, roles.captioner, roles.proposer)
    local = (name for name in names if name and name.startswith("local:"))
    return dict.fromkeys(name.removeprefix("local:") for name in local)


def _hash(path: Path) -> str:
    """SHA-256 of a file, or of a folder's safetensors with their names; empty where none is."""
    try:
        if path.is_file():
            status = path.stat()
            return _digest(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except OSError as error:
        raise ModelError(f"The weights {str(path)!r} cannot be read ({error.strerror}).") from None
    files = sorted(path.rglob("*.safetensors")) if path.is_dir() else []
    lines = [f"{file.relative_to(path).as_posix()} {_hash(file)}\n" for file in files]
    return sha256("".join(lines).encode()).hexdigest() if lines else ""


@lru_cache(maxsize=1000)
def _digest(path: Path, *state: int) -> str:
    """SHA-256 of a file, read again when its size or one of its times changes."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _commit(name: str, revision: str | None) -> str:
    """The commit of a Hub id in the local cache; empty where it is not there, or no such id."""
    if fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is None:
        return ""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError:
        return ""
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True)).name
    except (HFValidationError, LocalEntryNotFoundError):
        return ""
