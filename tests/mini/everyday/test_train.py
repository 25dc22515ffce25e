"""Training runs on a CPU and leaves what it promises."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from npcorrect.mini.everyday import bench, cell_stages, flow_stages, train
from npcorrect.mini.everyday.accuracy import Setting, accuracy, draw
from npcorrect.mini.everyday.codec import CellCodec
from npcorrect.mini.everyday.data import sample_scene
from npcorrect.mini.everyday.labels import cell_labels
from npcorrect.mini.everyday.language import Group, Spec
from npcorrect.mini.everyday.model import load_pipeline
from npcorrect.mini.everyday.plan import Plan
from npcorrect.mini.everyday.scene import (
    COLORS,
    GROUNDS,
    KINDS,
    SIZES,
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
    monkeypatch.setattr(flow_stages, "sample_pair", a_dull_pair)
    monkeypatch.setattr(flow_stages, "make", lambda _: bench.load()[:4])
    for stages in (cell_stages, flow_stages):
        monkeypatch.setattr(stages, "draw_cell", lambda *_: np.zeros((64, 64, 3), np.uint8))
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


def test_the_decoder_draws_what_a_clear_code_says(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = CellCodec().decoder
    decoder.draw_bank()
    thing = Thing(0, 0, "zebra", "white", "large")
    drawing = torch.zeros(1, 2, len(KINDS) * len(SIZES) + 1)
    drawing[0, 0, KINDS.index("zebra") * len(SIZES) + SIZES.index("large")] = 99
    drawing[0, 1, -1] = 99
    color = 99 * torch.eye(len(COLORS))[[list(COLORS).index("white")] * 2][None]
    ground = 99 * torch.eye(len(GROUNDS))[[list(GROUNDS).index("mint")]]
    monkeypatch.setattr(decoder, "logits", lambda _: (drawing, color, ground))
    cells = decoder(torch.zeros(1, 2, 32)).permute(0, 2, 3, 1)
    for cell, expected in zip(cells, (thing, None), strict=True):
        pixels = ((cell + 1) * 127.5).numpy()
        assert np.abs(pixels - draw_cell(expected, "mint")).max() < 3


def test_the_codebook_holds_what_the_encoder_makes_of_each_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_stages, "KINDS", KINDS[:1])
    monkeypatch.setattr(flow_stages, "JITTER", 0)
    codec = CellCodec().eval()
    book = flow_stages.Codebook(codec, Plan(), tmp_path)
    place = Scene((Thing(1, 1, KINDS[0], "pink", "small"),), "sky")
    codes = book.codes(torch.tensor([cell_labels(place)]))
    with torch.no_grad():
        expected = pack(codec.encode(to_pixels(torch.from_numpy(render(place)[None]))))
    torch.testing.assert_close(codes[0, 0], expected[0, 0])
    assert (codes - expected).abs().amax() < 0.2 * expected.std()
    again = flow_stages.Codebook(CellCodec(), Plan(), tmp_path)
    torch.testing.assert_close(again.things, book.things)


def test_the_committed_prompts_are_those_of_the_seed_and_no_other() -> None:
    made = bench.make()
    assert bench.load() == made
    assert len({sample.prompt for sample in made}) == len(made) == 320
    other = bench.make(7, frozenset(sample.prompt for sample in made))
    assert not {s.prompt for s in other} & {s.prompt for s in made}
