"""Load a model by name: a Hub id, a diffusers folder or a single file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from npcorrect.diffusion.families import FamilySpec
from npcorrect.diffusion.identify import Identified, hub_errors, identify
from npcorrect.diffusion.memory import out_of_memory, require_device
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.single_file import no_safetensors, read_header, refuse_scaled
from npcorrect.errors import ModelError, NpcError, SettingsError
from npcorrect.extras import require
from npcorrect.settings import LoadSettings, lora_weight

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_pipeline(settings: LoadSettings) -> PipelineModel:
    """The model from the Hub, a folder or a file that the settings name.

    Raises:
        ModelError: it is missing, gated, corrupt, of no known family, or too large for memory.
        SettingsError: an option cannot be had here.
    """
    device = chosen_device(settings.device)
    dtype = chosen_dtype(settings.dtype, device)
    identified = identify(settings)
    if settings.quantize and not device.startswith("cuda"):
        raise SettingsError(f"--quantize needs a CUDA device, not {device}; leave it out.")
    if settings.quantize:
        require("bitsandbytes", "--quantize")
    if settings.offload == "sequential" and device == "cpu":
        raise SettingsError("--offload sequential needs a GPU, not the cpu; leave it out.")
    if settings.offload != "none":
        require("accelerate", "--offload")
    if settings.lora:
        require("peft", "--lora")
    with loading_errors(identified), _without_bars():
        pipeline = _load_pipeline(identified, settings, dtype)
        for number, lora in enumerate(settings.lora):
            _load_lora(pipeline, lora, f"npc{number}", settings.offline, identified.family)
        _weigh_loras(pipeline, settings.lora)
        _place(pipeline, identified, settings, device)
    pipeline.set_progress_bar_config(disable=True)
    return PipelineModel(settings.model, pipeline, identified.family)


def chosen_device(asked: str | None) -> str:
    """The device asked for, or the fastest there is.

    Raises:
        ModelError: it is unknown or not there.
    """
    if asked is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    require_device(asked)
    return asked


def chosen_dtype(asked: str | None, device: str) -> torch.dtype:
    """The dtype asked for, or the one that suits the device.

    Raises:
        ModelError: it is unknown.
    """
    if asked is None:
        kind = device.split(":")[0]
        return {"cuda": torch.bfloat16, "mps": torch.float16}.get(kind, torch.float32)
    if asked not in DTYPES:
        raise ModelError(f"The dtype {asked!r} is unknown; use {', '.join(DTYPES)}.")
    return DTYPES[asked]


def _load_pipeline(identified: Identified, settings: LoadSettings, dtype: torch.dtype) -> Any:
    import diffusers

    kind = getattr(diffusers, identified.family.pipeline)
    shared: dict[str, Any] = {"dtype": dtype, "local_files_only": settings.offline}
    whole = shared | {
        "revision": settings.revision,
        "variant": settings.variant,
        "use_safetensors": True,
        "trust_remote_code": settings.trust_remote_code,
    }
    if settings.quantize:
        whole["quantization_config"] = quantization(identified, settings.quantize, dtype)
    if identified.kind != "file":
        return kind.from_pretrained(identified.base, **whole)
    if not identified.denoiser_only:
        return kind.from_single_file(identified.name, config=identified.base, **shared)
    part = identified.family.denoiser
    denoiser = _denoiser_class(identified, settings).from_single_file(
        identified.name, config=identified.base, subfolder=part, **shared
    )
    return kind.from_pretrained(identified.base, **{part: denoiser}, **whole)


def _denoiser_class(identified: Identified, settings: LoadSettings) -> Any:
    import diffusers

    from npcorrect.diffusion.identify import ModelFiles

    files = ModelFiles(identified.base, settings.revision, settings.offline)
    _, name = files.read("model_index.json")[identified.family.denoiser]
    return getattr(diffusers, name)


def quantization(identified: Identified, bits: str, dtype: torch.dtype) -> Any:
    """diffusers' own configuration, for the denoiser and the token-level text encoders."""
    from diffusers import PipelineQuantizationConfig

    encoders = {encoder for _, encoder in identified.family.text.encoders}
    four = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": dtype,
    }
    return PipelineQuantizationConfig(
        quant_backend=f"bitsandbytes_{bits}",
        quant_kwargs=four if bits == "4bit" else {"load_in_8bit": True},
        components_to_quantize=[identified.family.denoiser, *sorted(encoders)],
    )


def _load_lora(pipeline: Any, lora: str, name: str, offline: bool, family: FamilySpec) -> None:
    place, _ = lora_weight(lora)
    path = Path(place)
    if path.suffix == ".safetensors" and not path.exists():
        raise ModelError(f"There is no LoRA file {place!r}; check the path.")
    if path.suffix == ".safetensors" and not path.is_dir():
        refuse_scaled(path, read_header(path))
    elif path.exists() and not path.is_dir():
        raise ModelError(no_safetensors(path))
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(f"{type(pipeline).__name__} takes no LoRA weights; leave --lora out.")
    try:
        with hub_errors(place):
            pipeline.load_lora_weights(
                place, adapter_name=name, local_files_only=offline, use_safetensors=True
            )
    except NpcError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"The LoRA {place!r} does not fit this model: {reason}") from None
    if name not in pipeline.get_list_adapters().get(family.denoiser, ()):
        raise ModelError(
            f"The LoRA {place!r} does not fit this model, which is {family.title}: none of its "
            "keys match the denoiser's."
        )
    weights = getattr(pipeline, family.denoiser).named_parameters()
    if not all(weight.isfinite().all() for key, weight in weights if f".{name}." in key):
        raise ModelError(f"The LoRA {place!r} has weights that are no finite numbers.")


def _weigh_loras(pipeline: Any, loras: tuple[str, ...]) -> None:
    if loras:
        names = [f"npc{number}" for number in range(len(loras))]
        pipeline.set_adapters(names, [lora_weight(lora)[1] for lora in loras])


def _place(pipeline: Any, identified: Identified, settings: LoadSettings, device: str) -> None:
    """Bring the networks to the device, and prepare them as the settings say."""
    if settings.vae_tiling:
        if not hasattr(pipeline.vae, "enable_tiling"):
            raise SettingsError(f"The autoencoder of {identified.name!r} has no tiling.")
        pipeline.vae.enable_tiling()
    if settings.compile:
        denoiser = getattr(pipeline, identified.family.denoiser)
        regional = getattr(denoiser, "_repeated_blocks", None)
        (denoiser.compile_repeated_blocks if regional else denoiser.compile)()
    if settings.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif settings.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    elif settings.quantize is None:
        pipeline.to(device)
    else:
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module) and not hasattr(part, "hf_quantizer"):
                part.to(device)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without the libraries' bars for files read from the disk; downloads keep theirs."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [
        logging
        for logging in (diffusers_logging, transformers_logging)
        if logging.is_progress_bar_enabled()
    ]
    # transformers' public switch would silence the downloads too.
    for logging in shown:
        logging._tqdm_active = False
    try:
        yield
    finally:
        for logging in shown:
            logging._tqdm_active = True


@contextmanager
def loading_errors(identified: Identified) -> Iterator[None]:
    """Turn what goes wrong in loading into one sentence with a remedy.

    Raises:
        ModelError: in place of the libraries' errors.
    """
    name = identified.base if identified.kind == "file" else identified.name
    try:
        with hub_errors(name):
            yield
    except NpcError:
        raise
    except Exception as error:
        raise ModelError(_explained(identified, error)) from error


def _explained(identified: Identified, error: Exception) -> str:
    text = str(error).strip()
    reason = text.splitlines()[0] if text else type(error).__name__
    if out_of_memory(error):
        return (
            f"Memory ran out while {identified.name!r} was loaded; try --offload model (or "
            "sequential, slower and smaller), --quantize 4bit, or --dtype bfloat16."
        )
    if "trust_remote_code" in text:
        return (
            f"The model {identified.name!r} brings code of its own, which npc does not run "
            "unasked; read it, and give --trust-remote-code if you trust it."
        )
    if "safetensors" in text and ("found" in text or "not" in text):
        return (
            f"The model {identified.name!r} has no safetensors weights where they are expected "
            f"({reason}). Pickled weights are not loaded; try --variant fp16, or another revision."
        )
    if isinstance(error, ImportError):
        return f"The model {identified.name!r} needs a package that is not installed: {reason}"
    return f"The model {identified.name!r} cannot be loaded: {reason}"
