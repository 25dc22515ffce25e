"""Training runs on a CPU and leaves what it promises."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from npcorrect.mini import accuracy as accuracies
from npcorrect.mini import bench, examples, flow_stages, renderer, train
from npcorrect.mini.accuracy import Setting, accuracy, draw
from npcorrect.mini.codec import CellCodec
from npcorrect.mini.data import sample_scene
from npcorrect.mini.labels import cell_labels
from npcorrect.mini.language import Group, Spec
from npcorrect.mini.model import load_pipeline
from npcorrect.mini.scene import (
    COLORS,
    KINDS,
    Scene,
    Thing,
    draw_cell,
    render,
)
from npcorrect.mini.tensors import pack, to_pixels, unpack


def a_dull_pair(rng: random.Random) -> tuple[Scene, Spec]:
    """One thing of the first kind, so that one kind's codes suffice."""
    spec = Spec((Group(KINDS[0], 1, rng.choice(tuple(COLORS))),))
    return sample_scene(rng, spec), spec


def test_all_stages_run_and_make_a_pipeline_that_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_stages, "KINDS", KINDS[:1])
    monkeypatch.setattr(flow_stages, "VARIANTS", 1)
    monkeypatch.setattr(flow_stages, "make", lambda _: bench.load()[:4])
    monkeypatch.setattr(examples, "sample_pair", a_dull_pair)
    monkeypatch.setattr(accuracies, "read", lambda _: Scene(()))
    monkeypatch.setattr(renderer, "layers", lambda *_: np.zeros((64, 64, 5), np.float32))
    steps = [f"--{name}-steps=1" for name in train.STAGES]
    train.main(["--out", str(tmp_path), "--batch", "16", *steps])
    record = json.loads((tmp_path / "training.json").read_text())
    assert {name: run["steps"] for name, run in record.items()} == dict.fromkeys(train.STAGES, 1)
    assert set(json.loads((tmp_path / "accuracy.json").read_text())) == {"teacher/1", "student/1"}
    pipeline = load_pipeline(tmp_path)
    assert pipeline.transformer.config.guidance_embeds
    samples = bench.load()[:2]
    pictures = list(draw(pipeline, samples, Setting(num_inference_steps=1)))
    assert [picture.size for picture in pictures] == [(192, 192)] * 2
    assert 0 <= accuracy(samples, pictures)["all"] <= 1
    before = (tmp_path / "teacher.safetensors").read_bytes()
    train.main(["--out", str(tmp_path), "--batch", "16", "--stage", "teacher", *steps])
    assert (tmp_path / "teacher.safetensors").read_bytes() == before


def test_the_codec_keeps_cells_apart() -> None:
    codec = CellCodec().eval()
    pixels = torch.rand(2, 3, 192, 192) * 2 - 1
    latents = codec.encode(pixels)
    assert latents.shape == (2, 8, 6, 6)
    torch.testing.assert_close(unpack(pack(latents), 3), latents)
    changed = pixels.clone()
    changed[:, :, :64, 64:128] = 0
    differs = (pack(codec.encode(changed)) - pack(latents)).abs().amax((0, 2)) > 1e-5
    assert differs.tolist() == [n == 1 for n in range(9)]
    assert codec.decode(latents).sample.shape == pixels.shape


def test_the_renderer_draws_as_scenes_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer, "KINDS", KINDS[:1])
    draw_cells = renderer.Renderer()
    thing = Thing(1, 1, KINDS[0], "pink", "small", dx=2, dy=-1)
    full, empty = (labels[4] for labels in map(cell_labels, (Scene((thing,)), Scene(()))))
    shifts = torch.tensor([[thing.dy, thing.dx], [0, 0]])
    cells = draw_cells(torch.tensor([full, empty]), shifts).permute(0, 2, 3, 1)
    for cell, expected in zip(cells, (thing, None), strict=True):
        pixels = ((cell + 1) * 127.5).numpy()
        assert np.abs(pixels - draw_cell(expected, "ivory")).max() < 1


def test_the_codebook_holds_what_the_encoder_makes_of_each_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flow_stages, "KINDS", KINDS[:1])
    monkeypatch.setattr(flow_stages, "VARIANTS", 1)
    monkeypatch.setattr(renderer, "KINDS", KINDS[:1])
    codec, draw_cells = CellCodec().eval().requires_grad_(False), renderer.Renderer()
    monkeypatch.setattr(draw_cells, "random_shifts", lambda n: torch.zeros(n, 2, dtype=torch.long))
    book = flow_stages.Codebook(codec, draw_cells)
    scene = Scene((Thing(1, 1, KINDS[0], "pink", "small"),), "sky")
    codes = book(torch.tensor([cell_labels(scene)]))
    expected = pack(codec.encode(to_pixels(torch.from_numpy(render(scene)[None]))))
    assert (codes - expected).abs().amax() < 0.05 * expected.std()


def test_the_committed_prompts_are_those_of_the_seed_and_no_other() -> None:
    made = bench.make()
    assert bench.load() == made
    assert len({sample.prompt for sample in made}) == len(made) == 320
    other = bench.make(7, frozenset(sample.prompt for sample in made))
    assert not {s.prompt for s in other} & {s.prompt for s in made}
