"""Training runs on a CPU, leaves what it promises, and goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from npcorrect.mini import train
from npcorrect.mini.model import load_pipeline
from npcorrect.mini.training_run import TrainingRun, adamw


def steps_done(out: Path) -> dict[str, int]:
    record = json.loads((out / "training.json").read_text())
    return {name: stage["steps"] for name, stage in record.items()}


def test_all_stages_run_and_make_a_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "POOL", 500)
    steps = [f"--{name}-steps=1" for name in train.STAGES]
    train.main(["--out", str(tmp_path), "--batch", "4", *steps])
    assert steps_done(tmp_path) == dict.fromkeys(train.STAGES, 1)
    assert (tmp_path / "samples-000001.png").exists()
    assert load_pipeline(tmp_path).transformer.config.guidance_embeds is False


def test_a_stopped_stage_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    def train_to(stop_at: int) -> tuple[TrainingRun, list[int]]:
        torch.manual_seed(0)
        network = nn.Linear(2, 1)
        stage = TrainingRun("line", tmp_path, 1000, {"line": network}, adamw(1e-2))
        seen: list[int] = []

        def loss_of(step: int) -> Tensor:
            seen.append(step)
            if step == stop_at:
                raise KeyboardInterrupt
            loss: Tensor = (network(torch.ones(4, 2)) - 3).square().mean()
            return loss

        if stop_at < stage.steps:
            with pytest.raises(KeyboardInterrupt):
                stage.run(loss_of)
        else:
            stage.run(loss_of)
        return stage, seen

    _, first = train_to(700)
    stage, second = train_to(1000)
    assert first[0] == 0
    assert second == list(range(500, 1000))
    assert stage.step == 1000
    assert stage.log[-1][1] < stage.log[0][1]
    assert not list(tmp_path.glob("*.partial"))
