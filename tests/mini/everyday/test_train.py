"""Training runs on a CPU, leaves what it promises, and goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from npcorrect.mini.everyday import bench, cell_stages, flow_stages, runs, train
from npcorrect.mini.everyday.accuracy import Setting, accuracy, draw
from npcorrect.mini.everyday.codec import CellCodec, pack, unpack
from npcorrect.mini.everyday.model import load_pipeline
from npcorrect.mini.everyday.runs import Run, adamw


def test_all_stages_run_and_make_a_pipeline_that_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_stages, "VARIANTS", 1)
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


def test_a_stopped_run_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "CHECKPOINT_SECONDS", 0.0)

    def train_to(stop_at: int) -> tuple[Run, list[int]]:
        torch.manual_seed(0)
        network = nn.Linear(2, 1)
        run = Run("line", tmp_path, 200, {"line": network}, adamw(1e-2, network))
        seen: list[int] = []

        def loss_of(step: int) -> Tensor:
            seen.append(step)
            if step == stop_at:
                raise KeyboardInterrupt
            loss: Tensor = (network(torch.ones(4, 2)) - 3).square().mean()
            return loss

        if stop_at < run.steps:
            with pytest.raises(KeyboardInterrupt):
                run.train(loss_of)
        else:
            run.train(loss_of)
        return run, seen

    assert train_to(120)[1] == list(range(121))
    run, seen = train_to(200)
    assert seen == list(range(120, 200))
    assert run.log[-1][1] < run.log[0][1]
    assert not list(tmp_path.glob("*.partial"))


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


def test_the_committed_prompts_are_those_of_the_seed_and_no_other() -> None:
    made = bench.make()
    assert bench.load() == made
    assert len({sample.prompt for sample in made}) == len(made) == 320
    other = bench.make(7, frozenset(sample.prompt for sample in made))
    assert not {s.prompt for s in other} & {s.prompt for s in made}
