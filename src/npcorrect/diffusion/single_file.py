"""What a single file of weights is, told by the names and shapes of its tensors alone."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace

from npcorrect.diffusion.families import FAMILIES, FamilySpec
from npcorrect.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]
"""The names and shapes of a file's tensors."""
_FILE_TYPES = {
    "v1": "sd15",
    "v2": "sd15",
    "xl": "sdxl",
    "xl_base": "sdxl",
    "playground-v2-5": "sdxl",
    "sd3": "sd3",
    "sd35_large": "sd35",
    "sd35_medium": "sd35",
    "flux-dev": "flux-dev",
    "flux-schnell": "flux-schnell",
    "chroma": "chroma",
    "auraflow": "aura-flow",
    "lumina2": "lumina2",
    "sana": "sana",
    "z-image-turbo": "z-image",
}
"""Families by the type that diffusers infers from a checkpoint's keys."""
_OWN_KEYS = {
    "time_text_embed.guidance_embedder.linear_1.weight": "flux-dev",
    "transformer_blocks.0.img_mod.1.weight": "qwen-image",
}
"""Families by a key, for denoisers saved in diffusers' own format."""
NEEDS_BASE = {
    "v2": "Stable Diffusion 2",
    "playground-v2-5": "Playground 2.5",
    "v_pred": "a model that predicts velocities",
}
"""Kinds of files whose configuration or schedule is not their family's: each needs a base."""
_UNETS = {768: "v1", 1024: "v2", 2048: "xl"}
"""Types of U-Nets in the original layout by the width of the text that they attend to."""
_PARTS = {
    "a text encoder": (
        "text_model.encoder.layers.0.mlp.fc1.weight",
        "encoder.block.0.layer.0.SelfAttention.q.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "resblocks.0.attn.in_proj_weight",
    ),
    "an autoencoder": (
        "decoder.conv_in.weight",
        "decoder.conv1.weight",
        "first_stage_model.decoder.conv_in.weight",
        "vae.decoder.conv_in.weight",
    ),
    "a ControlNet": (
        "control_model.time_embed.0.weight",
        "controlnet_cond_embedding.conv_in.weight",
        "controlnet_x_embedder.weight",
        "controlnet_blocks.0.weight",
    ),
    "a textual inversion": ("emb_params", "clip_g", "clip_l"),
}
"""What files can hold that is no model by itself, by keys of each."""
_ADAPTERS = ("lora_", ".lora", "lokr_", "hada_", "oft_blocks", "oft_diag")
"""Parts of keys that LoRAs and their kin alone have."""
_SCALED = {
    "scaled_fp8", "scale_weight", "weight_scale", "weight_scale_inv", "weight_scale_2",
    "scale_input", "input_scale", "absmax", "quant_map", "qweight", "wscales", "comfy_quant",
}  # fmt: skip
"""Ends of keys beside weights that are not what they stand for before they are scaled."""
_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
MAX_HEADER = 100 * 2**20
"""Bytes of a safetensors file's header, as its own library has it."""
_BROKEN = (
    OSError, struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError,
    RecursionError,
)  # fmt: skip


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a safetensors file's tensors.

    Raises:
        ModelError: there is no such file, or it is not a whole safetensors file.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = path.stat().st_size
            if length > min(size, MAX_HEADER):
                raise ValueError("the header is too long")
            header = json.loads(file.read(length))
        tensors = {k: v for k, v in header.items() if k != "__metadata__"}
        end = max((v["data_offsets"][1] for v in tensors.values()), default=0)
        if end > size - 8 - length:
            raise ValueError("its end is missing")
        return {k: tuple(map(int, v["shape"])) for k, v in tensors.items()}
    except FileNotFoundError:
        raise ModelError(f"There is no file {str(path)!r}; check the path.") from None
    except _BROKEN as error:
        raise ModelError(
            f"The file {str(path)!r} is not a whole safetensors file ({error}); download it again."
        ) from None


def no_safetensors(path: Path) -> str:
    """Why a file that is there is no model."""
    name = repr(str(path))
    if path.name.endswith(".index.json"):
        return f"The file {name} lists the parts of a model; give the folder of its pipeline."
    if path.suffix == ".gguf":
        return f"The file {name} is GGUF, which npc does not load; give safetensors weights."
    if path.suffix in _PICKLES:
        return (
            f"The file {name} is pickled, and loading it could run code; save its state dict with "
            "safetensors.torch.save_file where you trust it, and give that file."
        )
    return f"The file {name} is no model; give a .safetensors file, a folder or a Hub id."


def refuse_scaled(path: Path, names: Iterable[str]) -> None:
    """Refuse weights that would be read without the scales beside them.

    Raises:
        ModelError: names one of them.
    """
    for name in names:
        if name.rsplit(".", 1)[-1] in _SCALED:
            raise ModelError(
                f"The file {str(path)!r} has weights in few bits with scales of their own "
                f"({name[:80]!r}), which npc would read wrongly; give the file in 16 bits, and "
                "--quantize for less memory."
            )


def part_of(shapes: Shapes) -> str:
    """What a file holds in place of a model, such as "a LoRA"; empty where that is not known."""
    if any(mark in key for key in shapes for mark in _ADAPTERS):
        return "a LoRA"
    return next((what for what, keys in _PARTS.items() if shapes.keys() & {*keys}), "")


def family_of_file(path: Path, shapes: Shapes) -> tuple[str, FamilySpec | None, str]:
    """The type of a file, its family, and by what it was recognised."""
    if any(mark in key for key in shapes for mark in _ADAPTERS):
        return "", None, ""
    for key, name in _OWN_KEYS.items():
        if key in shapes and not any(key.startswith("controlnet_") for key in shapes):
            plain = name != "flux-dev" or _draws_from_noise_alone(shapes)
            return name, FAMILIES[name] if plain else None, f"it has {key}"
    kind = _type_of_file(shapes)
    name = _FILE_TYPES.get(kind, "")
    turbo = f"{name}-turbo"
    if turbo in FAMILIES and "turbo" in path.stem.lower():
        name = turbo
    predicts = "v_pred" if "v_pred" in shapes else kind
    return predicts, FAMILIES.get(name), f"its keys are those of {kind}"


def _type_of_file(shapes: Shapes) -> str:
    """The type that diffusers infers, but for those that it takes for another; "" for none."""
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type

    try:
        kind = infer_diffusers_model_type({k: SimpleNamespace(shape=v) for k, v in shapes.items()})
    except (IndexError, KeyError, ValueError, UnboundLocalError):
        return ""
    if kind == "v1":  # which it says of all that it does not know
        return _unet_type(shapes)
    if kind == "sana" and not any(".mlp.inverted_conv." in key for key in shapes):
        return ""  # PixArt's original layout has the same keys of attention
    return str(kind)


def _unet_type(shapes: Shapes) -> str:
    """The type of a U-Net in the original layout, by what it attends to and draws from."""
    for prefix in ("model.diffusion_model.", ""):
        first = shapes.get(f"{prefix}input_blocks.0.0.weight", ())
        widths = [
            shapes.get(f"{prefix}input_blocks.{n}.1.transformer_blocks.0.attn2.to_k.weight", ())
            for n in (1, 4)
        ]
        unknown = 2048 if f"{prefix}label_emb.0.0.weight" in shapes else 768
        if first[1:2] == (4,):
            return _UNETS.get(next((shape[-1] for shape in widths if shape), unknown), "")
    return ""


def _draws_from_noise_alone(shapes: Shapes) -> bool:
    """Whether a transformer of FLUX's make reads as many channels as it predicts: no Fill."""
    read, predicted = shapes.get("x_embedder.weight", ()), shapes.get("proj_out.weight", ())
    return bool(read) and read[-1] == (predicted[0] if predicted else None)
