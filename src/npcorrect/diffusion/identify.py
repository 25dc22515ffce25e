"""From what the user calls a model to its family, by configuration files alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from re import fullmatch
from typing import Any, Literal

from npcorrect.diffusion.families import FAMILIES, FamilySpec, families_of
from npcorrect.diffusion.single_file import (
    NEEDS_BASE,
    family_of_file,
    no_safetensors,
    part_of,
    read_header,
    refuse_scaled,
)
from npcorrect.errors import ModelError
from npcorrect.extras import requiring
from npcorrect.settings import LoadSettings

Kind = Literal["hub", "folder", "file"]
MAX_CONFIG = 2**24
"""Bytes of a configuration file."""
_WHOLE = ("first_stage_model.", "vae.")
"""A checkpoint with one of these is a whole pipeline; without, it is a denoiser alone."""


@dataclass(frozen=True)
class Identified:
    """A model before its weights are loaded.

    ``base`` is the Hub id or folder of the whole pipeline; for a single file, the one that lends
    what the file lacks. ``denoiser_only`` says that a file holds no more than the denoiser.
    ``note`` says what the family was recognised by.
    """

    name: str
    kind: Kind
    family: FamilySpec
    base: str
    note: str
    denoiser_only: bool = False


@dataclass(frozen=True)
class ModelFiles:
    """Where a model's files are: a folder, or the Hub and its local cache."""

    name: str
    revision: str | None = None
    offline: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether the name is a folder on this machine; otherwise it is a repository of the Hub."""
        return Path(self.name).is_dir()

    def read(self, path: str) -> dict[str, Any]:
        """A JSON file of the model.

        Raises:
            ModelError: it is not to be had, or not JSON.
        """
        if self.is_folder:
            place = Path(self.name) / path
            if not place.is_file():
                raise ModelError(f"The folder {self.name!r} has no {path}: {_NO_PIPELINE}")
        else:
            place = self._fetched(path)
        try:
            if place.stat().st_size > MAX_CONFIG:
                raise ValueError(f"it has more than {MAX_CONFIG >> 20} MiB")
            content = json.loads(place.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("it is no JSON object")
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"The file {str(place)!r} cannot be read: {error}.") from None
        return content

    def _fetched(self, path: str) -> Path:
        """Where a file of a Hub id is in the local cache."""
        try:
            with hub_errors(self.name, self.revision):
                from huggingface_hub import hf_hub_download

                return Path(
                    hf_hub_download(
                        self.name, path, revision=self.revision, local_files_only=self.offline
                    )
                )
        except OSError as error:
            raise ModelError(
                f"What the Hub's client keeps cannot be used: {error}. Let HF_HOME name a folder "
                "that can be read and written."
            ) from None

    def weights(self, variant: str | None = None) -> int | None:
        """Bytes of the safetensors files that a pipeline loads; None where nobody was asked."""
        if self.is_folder:
            root = Path(self.name)
            sizes = {
                str(file.relative_to(root)): file.stat().st_size
                for file in root.glob("*/*.safetensors")
            }
        elif self.offline:
            return None
        else:
            with hub_errors(self.name, self.revision):
                from huggingface_hub import HfApi

                info = HfApi().model_info(self.name, revision=self.revision, files_metadata=True)
            sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        pattern = r"[^/]+/[^/.]+(\." + (variant or "(?!)") + r")(-\d+-of-\d+)?\.safetensors"
        plain = r"[^/]+/[^/.]+\.safetensors"
        chosen = [n for n in sizes if fullmatch(pattern, n)] if variant else []
        return sum(sizes[n] for n in chosen or sizes if chosen or fullmatch(plain, n))


_NO_PIPELINE = (
    "it is not a diffusers pipeline. Give the folder that save_pretrained made, a Hub id whose "
    "files include model_index.json, or a single .safetensors file."
)


def identify(settings: LoadSettings) -> Identified:
    """Find a model's family. ``family`` and ``base`` overrule what would be guessed.

    Raises:
        ModelError: there is no such model, or no family for it.
    """
    name, family = settings.model, settings.family
    if family is not None and family not in FAMILIES:
        raise ModelError(f"The family {family!r} is unknown; the families are {_known()}.")
    path = Path(name)
    if name.endswith(".safetensors") and not path.is_dir():
        return _identify_file(path, family, settings.base)
    if path.exists() and not path.is_dir():
        raise ModelError(no_safetensors(path))
    if not path.is_dir() and not _is_hub_id(name):
        raise ModelError(
            f"There is no model {name!r}: it is no folder and no file here, and no Hub id such as "
            "'black-forest-labs/FLUX.1-dev'. The embedded model is called 'mini'."
        )
    files = ModelFiles(name, settings.revision, settings.offline)
    index = files.read("model_index.json")
    kind: Kind = "folder" if files.is_folder else "hub"
    named = index.get("_class_name", "")
    pipeline = named if isinstance(named, str) else ""

    def config(part: str) -> dict[str, Any]:
        return files.read(f"{part}/config.json")

    if family is not None:
        refuse_embedded_guidance(name, FAMILIES[family], config)
        return Identified(name, kind, FAMILIES[family], name, "told by --family")
    rows = families_of(pipeline)
    if not rows:
        raise ModelError(
            f"The model {name!r} is a {pipeline or 'pipeline without a name'}, which npc does not "
            f"know; the families are {_known()}."
        )
    row, note = _member(name, pipeline, index, config)
    refuse_embedded_guidance(name, row, config)
    return Identified(name, kind, row, name, note)


def _is_hub_id(name: str) -> bool:
    """Whether a name can be one of the Hub's, and no path such as ``./folder``."""
    return fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None


def family_of_pipeline(pipeline: Any) -> FamilySpec:
    """The family of a diffusers pipeline that is loaded already, by its class and configuration.

    Raises:
        ModelError: no family has a pipeline of its class.
    """
    kind = type(pipeline).__name__
    if not families_of(kind):
        raise ModelError(
            f"A {kind} is of no family that npc knows; the families are {_known()}. Give one as "
            "family=..., if it is called as that family's pipeline is."
        )
    return _of_class(pipeline, kind)[0]


def family_named(pipeline: Any, name: str) -> FamilySpec:
    """The family of this name, if a diffusers pipeline that is loaded already can be of it.

    Raises:
        ModelError: there is none, or the pipeline is another family's, or lacks parts.
    """
    if name not in FAMILIES:
        raise ModelError(f"The family {name!r} is unknown; use {', '.join(FAMILIES)}.")
    row, kind = FAMILIES[name], type(pipeline).__name__
    if not (rows := families_of(kind)):
        needed = (row.denoiser, *sum(row.text.encoders, ()))
        if lacking := [part for part in needed if getattr(pipeline, part, None) is None]:
            raise ModelError(f"A {kind} has no {lacking[0]}, and so cannot be {row.title}.")
        return row
    fits, by = (rows[0], f"it is a {kind}") if row not in rows else _of_class(pipeline, kind)
    if fits is not row and not by.startswith("the name"):
        raise ModelError(
            f"The pipeline is no {row.title} ({by}); leave the family out, or give {fits.name!r}."
        )
    return row


def _of_class(pipeline: Any, kind: str) -> tuple[FamilySpec, str]:
    name = str(pipeline.config.get("_name_or_path") or "")
    return _member(name, kind, pipeline.config, lambda part: getattr(pipeline, part).config)


def refuse_missing_parts(pipeline: Any) -> None:
    """Refuse a pipeline that was loaded without a part which its class needs.

    Raises:
        ModelError: it was.
    """
    optional = getattr(pipeline, "_optional_components", ())
    for name, part in getattr(pipeline, "components", {}).items():
        if part is None and name not in optional:
            raise ModelError(
                f"The {type(pipeline).__name__} was loaded without its {name}, which it needs to "
                "draw; load it whole."
            )


def refuse_embedded_guidance(
    name: str, row: FamilySpec, config: Callable[[str], Mapping[str, Any]]
) -> None:
    """Refuse a Qwen-Image that takes a guidance scale: its network is not in diffusers.

    ``config`` gives the configuration of a part of the pipeline.

    Raises:
        ModelError: it is one.
    """
    if row.pipeline == "QwenImagePipeline" and config("transformer").get("guidance_embeds"):
        raise ModelError(
            f"The model {name!r} is a Qwen-Image with an embedded guidance scale (guidance_embeds "
            "is true), which diffusers cannot draw; use one without, such as Qwen/Qwen-Image."
        )


def _member(
    name: str,
    pipeline: str,
    index: Mapping[str, Any],
    config: Callable[[str], Mapping[str, Any]],
) -> tuple[FamilySpec, str]:
    """Which of the rows that share a pipeline class, and by what it was recognised.

    ``config`` gives the configuration of a part of the pipeline.
    """
    turbo = "turbo" in Path(name).name.lower()
    by_name = "the name says turbo" if turbo else "the name does not say turbo"
    if pipeline == "FluxPipeline":
        embeds = bool(config("transformer").get("guidance_embeds"))
        row = "flux-dev" if embeds else "flux-schnell"
        return FAMILIES[row], f"guidance_embeds is {str(embeds).lower()}"
    if pipeline == "Flux2KleinPipeline":
        distilled = bool(index.get("is_distilled"))
        row = "flux2-klein" if distilled else "flux2-klein-base"
        return FAMILIES[row], f"is_distilled is {str(distilled).lower()}"
    if pipeline == "StableDiffusion3Pipeline" and not turbo:
        normed = bool(config("transformer").get("qk_norm"))
        return FAMILIES["sd35" if normed else "sd3"], f"qk_norm is {'set' if normed else 'not set'}"
    if pipeline == "Krea2Pipeline" and index.get("is_distilled"):
        raise ModelError(
            f"The model {name!r} was distilled to draw without guidance, so that a negative has no "
            "effect on it; give the model that it was distilled from."
        )
    rows = families_of(pipeline)
    if len(rows) == 1:
        return rows[0], f"the pipeline is {pipeline}"
    return next(row for row in rows if bool(row.distilled) == turbo), by_name


def _identify_file(path: Path, family: str | None, base: str | None) -> Identified:
    if part := fullmatch(r".*-\d{5}-of-(\d{5})", path.stem):
        raise ModelError(
            f"The file {str(path)!r} is one of {int(part[1])} parts; give the folder of the whole "
            "pipeline."
        )
    shapes = read_header(path)
    refuse_scaled(path, shapes)
    kind, guessed, note = family_of_file(path, shapes)
    if alone := part_of(shapes) if guessed is None else "":
        raise ModelError(
            f"The file {str(path)!r} is {alone}, not a model"
            + ("; give it with --lora." if alone == "a LoRA" else "; give the denoiser's file.")
        )
    if kind in NEEDS_BASE and base is None:
        raise ModelError(
            f"The file {str(path)!r} is {NEEDS_BASE[kind]}, whose configuration npc does not "
            "guess; name a Hub id or a folder of that model with --base."
        )
    row = FAMILIES[family] if family else guessed
    if row is None:
        raise ModelError(
            f"The file {str(path)!r} is of no kind that npc recognises. If it is a LoRA, give it "
            f"with --lora; else name its family with --family: {_known()}."
        )
    whole = any(key.startswith(_WHOLE) for key in shapes)
    note = "told by --family" if family else note
    return Identified(str(path), "file", row, base or row.checkpoints[0], note, not whole)


@contextmanager
def hub_errors(name: str, revision: str | None = None) -> Iterator[None]:
    """Say what is missing, and how to get it, where the Hub does not give a model.

    Raises:
        ModelError: in place of the Hub's own errors.
        SettingsError: the Hub's client is not installed.
    """
    with requiring(f"The model {name!r}"):
        from huggingface_hub import errors

    page = f"https://huggingface.co/{name}"
    try:
        yield
    except errors.HFValidationError:
        raise ModelError(
            f"There is no folder {name!r} here, and it is no Hub id such as "
            "'black-forest-labs/FLUX.1-dev'; check the path."
        ) from None
    except errors.GatedRepoError:
        raise ModelError(
            f"The model {name!r} is gated: accept its licence at {page} and log in with "
            "'hf auth login', then try again."
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(
            f"The model {name!r} has no revision {revision!r}; see {page}/commits/main."
        ) from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"The Hub has no model {name!r}; check the spelling, or log in with 'hf auth login' "
            "if it is private."
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise ModelError(
            f"The model {name!r} is not in the local cache and the Hub was not reached; run once "
            f"without --offline and with a connection, or fetch it with 'hf download {name}'."
        ) from None
    except errors.EntryNotFoundError:
        raise ModelError(f"The Hub's {name!r} has no model_index.json: {_NO_PIPELINE}") from None
    except errors.HfHubHTTPError as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"The Hub did not give {name!r} ({reason}); try again later.") from None


def _known() -> str:
    return ", ".join(FAMILIES)
