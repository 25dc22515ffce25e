"""Loading by name: folders, single files, options, and what to say where it cannot be done."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from huggingface_hub import errors
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file

from npcorrect import api
from npcorrect.diffusion.base import Glance, Watch
from npcorrect.diffusion.identify import Identified, hub_errors, identify
from npcorrect.diffusion.loading import quantization
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.single_file import read_header
from npcorrect.errors import ModelError, SettingsError
from npcorrect.records import Request
from npcorrect.settings import LoadSettings, lora_weight
from tests.diffusion.conftest import tiny_model
from tests.diffusion.drawing import draw_one, resolved
from tests.diffusion.tiny import BUILDERS, NEGATIVE, PROMPT, SIZE, build

REQUEST = Request(PROMPT, seed=3, steps=2, size=SIZE)
SAVED = [name for name in BUILDERS if name != "kandinsky5"]
"""Kandinsky's tiny tokenizer is a class of the tests, which no folder can name."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def saved(folders: Path, family: str) -> Path:
    folder = folders / family
    if not folder.exists():
        tiny_model(family).pipeline.save_pretrained(folder)
    return folder


def load(model: object, **options: Any) -> PipelineModel:
    return api.load(str(model), **options)


def identified(model: object, **options: Any) -> Identified:
    return identify(LoadSettings(model=str(model), **options))


def picture(model: PipelineModel) -> Any:
    return np.asarray(draw_one(model, resolved(model, REQUEST, NEGATIVE)).image).astype(int)


@pytest.mark.parametrize("family", SAVED)
def test_a_folder_is_recognised_and_draws_as_the_pipeline_in_it(folders: Path, family: str) -> None:
    folder = saved(folders, family)
    assert identified(folder).family.name == family
    loaded = load(folder)
    assert loaded.family.name == family
    original = PipelineModel("tiny", tiny_model(family).pipeline, loaded.family)
    assert abs(picture(loaded) - picture(original)).max() <= 1


def test_the_family_can_be_told(folders: Path) -> None:
    found = identified(saved(folders, "sdxl"), family="sdxl-turbo")
    assert (found.family.name, found.note) == ("sdxl-turbo", "told by --family")
    with pytest.raises(ModelError, match="'sdxxl' is unknown; the families are flux-dev"):
        identified("a/b", family="sdxxl")


def test_a_single_file_takes_what_it_lacks_from_its_base(folders: Path, tmp_path: Path) -> None:
    folder = saved(folders, "flux-dev")
    file = tmp_path / "finetune.safetensors"
    weights = build("flux-dev", seed=1).transformer.state_dict()
    save_file(weights, file)
    found = identified(file, base=str(folder))
    assert (found.family.name, found.kind, found.denoiser_only) == ("flux-dev", "file", True)
    loaded = load(file, base=str(folder))
    for name, value in loaded.pipeline.transformer.state_dict().items():
        assert torch.equal(value, weights[name])
    assert abs(picture(loaded) - picture(load(folder))).max() > 1


@pytest.mark.parametrize(
    ("keys", "family", "whole"),
    [
        (
            {"model.diffusion_model.input_blocks.0.0.weight": 4, "first_stage_model.x": 1},
            "sd15",
            True,
        ),
        (
            {"conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": 4},
            "sdxl",
            False,
        ),
        ({"double_blocks.0.img_attn.norm.key_norm.scale": 4}, "flux-schnell", False),
        ({"transformer_blocks.0.img_mod.1.weight": 4}, "qwen-image", False),
        (
            {
                "double_layers.0.attn.w2q.weight": 4,
                "double_layers.0.attn.w1q.weight": 4,
                "cond_seq_linear.weight": 4,
                "t_embedder.mlp.0.weight": 4,
            },
            "aura-flow",
            False,
        ),
    ],
)
def test_files_are_recognised_by_their_keys(
    tmp_path: Path, keys: dict[str, int], family: str, whole: bool
) -> None:
    file = tmp_path / "model.safetensors"
    save_file({key: torch.zeros(size, 4) for key, size in keys.items()}, file)
    found = identified(file)
    assert (found.family.name, not found.denoiser_only) == (family, whole)
    assert read_header(file) == {key: (size, 4) for key, size in keys.items()}


def test_a_turbo_file_is_recognised_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "sdxl_turbo_1.0.safetensors"
    save_file(
        {"conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": torch.zeros(4)},
        file,
    )
    assert identified(file).family.name == "sdxl-turbo"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"12345678",
        b"\xff" * 64,
        b"\x02\0\0\0\0\0\0\0[]",
        (10**5).to_bytes(8, "little") + b"[" * 10**5,
        b'\x08\0\0\0\0\0\0\0{"a": 1}',
    ],
)
def test_broken_files_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.safetensors"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        identified(file)


def test_unknown_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"some.weight": torch.zeros(2)}, file)
    with pytest.raises(ModelError, match="with --lora; else name its family with --family"):
        identified(file)


_IN = "model.diffusion_model.input_blocks"
_TO_K = "1.transformer_blocks.0.attn2.to_k.weight"


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        ({f"{_IN}.0.0.weight": (8, 4, 3, 3), f"{_IN}.1.{_TO_K}": (8, 768)}, "sd15"),
        ({f"{_IN}.0.0.weight": (8, 4, 3, 3), f"{_IN}.4.{_TO_K}": (8, 2048)}, "sdxl"),
        ({"input_blocks.0.0.weight": (8, 4, 3, 3), f"input_blocks.4.{_TO_K}": (8, 2048)}, "sdxl"),
        (
            {
                f"{_IN}.0.0.weight": (8, 4, 3, 3),
                "model.diffusion_model.label_emb.0.0.weight": (8, 8),
            },
            "sdxl",
        ),
    ],
)
def test_a_unet_alone_is_told_by_what_it_attends_to(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], family: str
) -> None:
    file = tmp_path / "model.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, file)
    found = identified(file)
    assert (found.family.name, found.denoiser_only) == (family, True)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"transformer.blocks.0.lora_A.weight": (2,)}, "is a LoRA, not a model; give it with"),
        ({"lora_unet_mid_block.lokr_w1": (2,)}, "is a LoRA"),
        ({"blocks.0.attn.hada_w1_a": (2,)}, "is a LoRA"),
        ({"decoder.conv_in.weight": (2,), "encoder.conv_in.weight": (2,)}, "is an autoencoder"),
        ({"first_stage_model.decoder.conv_in.weight": (2,)}, "is an autoencoder"),
        ({"encoder.block.0.layer.0.SelfAttention.q.weight": (2,)}, "is a text encoder"),
        ({"text_model.encoder.layers.0.mlp.fc1.weight": (2,)}, "is a text encoder"),
        ({"model.layers.0.self_attn.q_proj.weight": (2,)}, "is a text encoder"),
        ({"control_model.time_embed.0.weight": (2,)}, "is a ControlNet"),
        (
            {"transformer_blocks.0.img_mod.1.weight": (2,), "controlnet_blocks.0.weight": (2,)},
            "is a ControlNet",
        ),
        ({"emb_params": (2,)}, "is a textual inversion"),
        ({"transformer_blocks.0.img_mod.1.weight": (2,), "x.scale_weight": (1,)}, "in few bits"),
        ({"scaled_fp8": (0,), "some.weight": (2,)}, "in few bits"),
        ({"a.qweight": (2,)}, "in few bits"),
        ({"b.weight.absmax": (2,)}, "in few bits"),
        ({f"{_IN}.0.0.weight": (8, 9, 3, 3), f"{_IN}.4.{_TO_K}": (8, 2048)}, "of no kind"),
        ({f"{_IN}.0.0.weight": (8, 4, 3, 3), f"{_IN}.1.{_TO_K}": (8, 640)}, "of no kind"),
        (
            {f"{_IN}.0.0.weight": (8, 4, 3, 3), f"{_IN}.2.{_TO_K}": (8, 1024)},
            "is Stable Diffusion 2.*--base",
        ),
        (
            {
                "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": (2,),
                "v_pred": (1,),
            },
            "predicts velocities.*--base",
        ),
        (
            {"blocks.0.cross_attn.q_linear.weight": (2, 2), "blocks.0.attn.qkv.weight": (2, 2)},
            "of no kind",
        ),
        (
            {
                "time_text_embed.guidance_embedder.linear_1.weight": (2, 2),
                "x_embedder.weight": (8, 384),
                "proj_out.weight": (64, 8),
            },
            "of no kind",
        ),
        ({"time_text_embed.guidance_embedder.linear_1.weight": (2, 2)}, "of no kind"),
    ],
)
def test_files_that_are_no_model_of_a_family_are_never_taken_for_one(
    tmp_path: Path, keys: dict[str, tuple[int, ...]], says: str
) -> None:
    file = tmp_path / "file.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in keys.items()}, file)
    with pytest.raises(ModelError, match=says):
        identified(file)


@pytest.mark.parametrize(
    "key", ["a.lora_A.weight", "decoder.conv_in.weight", "a.scale_weight", "emb_params"]
)
def test_a_family_that_is_told_makes_no_model_of_another_file(tmp_path: Path, key: str) -> None:
    file = tmp_path / "file.safetensors"
    save_file({key: torch.zeros(2)}, file)
    with pytest.raises(ModelError, match=r"not a model|in few bits"):
        identified(file, family="sdxl")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("model.ckpt", "is pickled.*safetensors.torch.save_file"),
        ("model.pth", "is pickled"),
        ("m.gguf", "is GGUF"),
        ("model.safetensors.index.json", "lists the parts.*folder of its pipeline"),
        ("picture.png", "is no model; give a .safetensors file"),
    ],
)
def test_files_of_other_kinds_say_what_to_do(tmp_path: Path, name: str, says: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=says):
        identified(file)


def test_one_part_of_many_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "diffusion_pytorch_model-00001-of-00003.safetensors"
    save_file({"transformer_blocks.0.img_mod.1.weight": torch.zeros(2)}, file)
    with pytest.raises(ModelError, match="is one of 3 parts"):
        identified(file)


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cut.safetensors"
    save_file({"transformer_blocks.0.img_mod.1.weight": torch.zeros(64)}, file)
    whole = file.read_bytes()
    for size in (4, 20, len(whole) - 100, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(ModelError, match="not a whole safetensors file"):
            identified(file)


@pytest.mark.parametrize("path", ["./nope", "../nope", "nope/../x", "a/b/c", ".hidden/x"])
def test_paths_that_lead_nowhere_are_not_asked_of_the_hub(path: str) -> None:
    with pytest.raises(ModelError, match="it is no folder and no file here"):
        identified(path)


@pytest.mark.parametrize("content", ["null", "[]", "7", '"x"', "[" * 100_000, '{"_class_name": 7}'])
def test_folders_whose_index_is_no_index_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(ModelError, match=r"cannot be read|which npc does not know"):
        identified(tmp_path)


def test_a_distilled_model_without_a_rule_is_refused_by_name(tmp_path: Path) -> None:
    index = {"_class_name": "Krea2Pipeline", "is_distilled": True}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="was distilled to draw without guidance"):
        identified(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"is_distilled": False}))
    assert identified(tmp_path).family.name == "krea2"


def test_a_pipe_in_place_of_a_model_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="no regular file"):
        identified(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "name", ["./nopefolder", "../nope", "a/b/c", "-x/y", "x" * 97 + "/y", "~/m"]
)
def test_a_folder_that_is_not_there_is_one_sentence(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_names_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="embedded model is called 'mini'"):
        load("no such model")
    with pytest.raises(ModelError, match="There is no file"):
        load(str(tmp_path / "gone.safetensors"))
    with pytest.raises(
        ModelError, match=r"has no model_index.json: it is not a diffusers pipeline"
    ):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    with pytest.raises(ModelError, match="is a WanPipeline, which npc does not know; the families"):
        load(tmp_path)


def test_a_hub_id_offline_and_not_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"not in the local cache.*'hf download a/b'"):
        load("a/b", offline=True)


def test_a_home_of_the_hub_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(home / "token"))
    with pytest.raises(ModelError, match=r"cannot be used: .*home.*HF_HOME"):
        load("a/b", offline=True)


class _Answer:
    headers = MappingProxyType({"x-request-id": "1"})
    request = None


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            errors.GatedRepoError,
            "accept its licence at https://huggingface.co/a/b .*'hf auth login'",
        ),
        (errors.RepositoryNotFoundError, "no model 'a/b'; check the spelling"),
        (errors.RevisionNotFoundError, "no revision 'v9'"),
        (errors.RemoteEntryNotFoundError, "no model_index.json"),
        (errors.HfHubHTTPError, "try again later"),
    ],
)
def test_what_the_hub_refuses_says_what_to_do(error: Any, says: str) -> None:
    with pytest.raises(ModelError, match=says), hub_errors("a/b", "v9"):
        raise error("refused", response=_Answer())


def test_missing_weights_and_pickles_are_refused(folders: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved(folders, "flux-schnell"), folder)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ModelError, match="no safetensors weights"):
        load(folder)
    (folder / "transformer" / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json"):
        load(folder)


def test_code_from_a_repository_is_not_run_unasked(folders: Path, tmp_path: Path) -> None:
    folder = tmp_path / "custom"
    shutil.copytree(saved(folders, "chroma"), folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    index = json.loads((folder / "model_index.json").read_text())
    index["transformer"] = ["evil", "Evil"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="--trust-remote-code"):
        load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("family", ["flux-dev", "sd15", "sd35", "z-image-turbo"])
def test_cpu_offload_changes_nothing_and_the_hook_still_goes(folders: Path, family: str) -> None:
    plain = picture(load(saved(folders, family)))
    model = load(saved(folders, family), offload="model", device="cpu")
    for _ in range(2):
        assert abs(picture(model) - plain).max() <= 1
    denoiser: Any = model.stock.denoiser
    assert not denoiser._diffusers_hook.hooks
    assert denoiser._hf_hook is not None


def test_networks_on_the_cpu_cannot_be_offloaded_one_by_one(folders: Path) -> None:
    with pytest.raises(SettingsError, match="--offload sequential needs a GPU"):
        load(saved(folders, "sd15"), offload="sequential", device="cpu")


def test_a_picture_is_encoded_where_the_autoencoder_is_offloaded(folders: Path) -> None:
    folder, image = saved(folders, "flux-dev"), Image.new("RGB", (SIZE, SIZE), "red")
    origins = []
    for options in ({}, {"offload": "model", "device": "cpu"}):
        model = load(folder, **options)
        origins.append(model.origin(image, resolved(model, REQUEST)))
    plain, offloaded = origins
    assert plain is not None
    assert offloaded is not None
    np.testing.assert_allclose(offloaded.latents, plain.latents, atol=1e-5)


def test_a_look_may_take_the_card_in_the_middle_of_a_drawing(folders: Path) -> None:
    """What is offloaded leaves the card, and comes back by itself for the next step."""
    request = Request(PROMPT, seed=3, steps=4, size=SIZE, rule="extra", looks=2)
    folder, images = saved(folders, "flux-dev"), []
    for options in ({}, {"offload": "model", "device": "cpu"}):
        model = load(folder, **options)
        drawing = model.plan(request).drawing(1, NEGATIVE)

        def look(_: int, shown: Any, negatives: Any, model: PipelineModel = model) -> Any:
            model.leave()
            return [Glance(negative, wrong=True) for negative in negatives]

        (generation,) = model.draw([drawing], Watch(look=look))
        assert generation.looks == 2
        images.append(np.asarray(generation.image).astype(int))
    assert abs(images[0] - images[1]).max() <= 1


def test_what_is_offloaded_leaves_the_card_on_demand(folders: Path) -> None:
    model = load(saved(folders, "flux-dev"), offload="model", device="cpu")
    moved = []
    model.pipeline._all_hooks = [
        SimpleNamespace(offload=lambda name=name: moved.append(name)) for name in "ab"
    ]
    model.leave()
    assert moved == ["a", "b"]


def test_tiling_is_switched_on(folders: Path) -> None:
    assert load(saved(folders, "sdxl"), vae_tiling=True).pipeline.vae.use_tiling


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    transformer = build("flux-dev").transformer
    transformer.add_adapter(
        LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    )
    FluxPipeline.save_lora_weights(tmp_path, get_peft_model_state_dict(transformer))
    return tmp_path / "pytorch_lora_weights.safetensors"


def test_loras_act_by_their_weight(folders: Path, lora: Path) -> None:
    folder = str(saved(folders, "flux-dev"))
    plain = picture(load(folder))
    full = picture(load(folder, lora=(str(lora),)))
    none = picture(load(folder, lora=(f"{lora}=0.0",)))
    assert abs(full - plain).max() > 1
    assert abs(none - plain).max() <= 1


def test_loras_that_cannot_be_loaded(folders: Path, lora: Path) -> None:
    with pytest.raises(ModelError, match="no LoRA file"):
        load(
            saved(folders, "flux-dev"),
            lora=(str(lora.with_name("x.safetensors")),),
        )
    with pytest.raises(ModelError, match="does not fit this model"):
        load(saved(folders, "sd15"), lora=(str(lora),))
    pickled = lora.with_name("style.pt")
    torch.save({}, pickled)
    with pytest.raises(ModelError, match="is pickled"):
        load(saved(folders, "flux-dev"), lora=(str(pickled),))
    weights = load_file(lora)
    for damage in (float("nan"), float("inf")):
        damaged = {key: torch.full_like(weight, damage) for key, weight in weights.items()}
        save_file(damaged, lora)
        with pytest.raises(ModelError, match="no finite numbers"):
            load(saved(folders, "flux-dev"), lora=(str(lora),))
    lora.write_bytes(lora.read_bytes()[:-8])
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        load(saved(folders, "flux-dev"), lora=(str(lora),))


def test_weights_of_loras_are_numbers_in_range() -> None:
    for weight in ("much", "nan", "inf", "1e30", "-1e30", ""):
        with pytest.raises(SettingsError, match=f"the weight '{weight}'"):
            lora_weight(f"a/b={weight}")
    name = "epoch=10-step=500.safetensors"
    assert lora_weight(name) == (name, 1.0)
    assert lora_weight(f"{name}=0.5") == (name, 0.5)
    assert lora_weight("a/b") == ("a/b", 1.0)
    assert lora_weight("a/b=0.5") == ("a/b", 0.5)


def test_options_that_cannot_be_had(folders: Path) -> None:
    folder = str(saved(folders, "sd15"))
    with pytest.raises(SettingsError, match="'dtype' is 'int3'; give one of float32"):
        load(folder, dtype="int3")
    with pytest.raises(ModelError, match="device 'warp9' cannot be used"):
        load(folder, device="warp9")
    with pytest.raises(SettingsError, match="--quantize needs a CUDA device, not cpu"):
        load(folder, device="cpu", quantize="4bit")
    with pytest.raises(SettingsError, match="--vae-tiling is for models from the Hub"):
        load("mini", vae_tiling=True)


def test_memory_that_runs_out_names_the_options(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr("diffusers.StableDiffusionPipeline.from_pretrained", full)
    with pytest.raises(ModelError, match=r"Memory ran out.*--offload model.*--quantize 4bit"):
        load(saved(folders, "sd15"))


def test_quantisation_covers_the_denoiser_and_the_encoder(folders: Path) -> None:
    pytest.importorskip("bitsandbytes")
    config = quantization(identified(saved(folders, "flux-dev")), "4bit", torch.bfloat16)
    assert config.components_to_quantize == ["transformer", "text_encoder_2"]


def test_the_embedded_model_has_a_name_too() -> None:
    assert load("mini").name == "mini"
