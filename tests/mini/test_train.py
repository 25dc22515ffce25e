"""Training runs on a CPU and leaves what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from npcorrect.mini import train
from npcorrect.mini.model import load_pipeline


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
