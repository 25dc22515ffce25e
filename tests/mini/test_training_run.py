"""A training goes on where it was stopped, and ends with what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from npcorrect.mini import training_run
from npcorrect.mini.training_run import TrainingRun, adamw, muon_and_adamw


def test_a_stopped_run_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", 0.0)

    def train_to(stop_at: int) -> tuple[TrainingRun, list[int]]:
        torch.manual_seed(0)
        network = nn.Linear(2, 1)
        run = TrainingRun("line", tmp_path, 200, {"line": network}, adamw(1e-2, network))
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
    record = json.loads((tmp_path / "training.json").read_text())["line"]
    assert record["steps"] == 200
    assert record["loss"][-1] == list(run.log[-1])


def test_muon_takes_the_matrices_of_blocks_that_are_not_spared() -> None:
    network = nn.ModuleDict(
        {"blocks": nn.ModuleDict({"norm": nn.Linear(2, 2), "to_q": nn.Linear(3, 3)})}
    )

    def shapes(spared: str | None) -> list[list[tuple[int, ...]]]:
        made = muon_and_adamw(1e-3, network, spared=spared)
        return [[tuple(p.shape) for p in one.param_groups[0]["params"]] for one in made]

    assert shapes(None) == [[(2, 2), (3, 3)], [(2,), (3,)]]
    assert shapes("norm") == [[(3, 3)], [(2, 2), (2,), (3,)]]
