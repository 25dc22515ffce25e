"""The shipped weights are small, whole and guarded, and they draw and correct."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from npcorrect.errors import ModelError
from npcorrect.loop import correct
from npcorrect.mini.bench import load
from npcorrect.mini.embedded import embedded
from npcorrect.mini.grammar import parse
from npcorrect.mini.judge import judge
from npcorrect.mini.model import WEIGHTS, load_pipeline
from npcorrect.mini.roles import embedded_roles
from npcorrect.ranking import SourceRanker
from npcorrect.records import Request
from npcorrect.result import select


def test_all_weights_together_stay_under_30_mb() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.glob("*")) < 30e6


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_damaged_weights_are_one_clear_sentence(damage: str, tmp_path: Path) -> None:
    weights = Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))
    victim = weights / "vae.safetensors"
    if damage == "missing":
        victim.unlink()
    elif damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:1000])
    else:
        shutil.copy(weights / "text_encoder.safetensors", victim)
    with pytest.raises(ModelError, match="missing" if damage == "missing" else "corrupt"):
        load_pipeline(weights)


def test_pictures_are_right_at_once_or_corrected_more_often_than_not() -> None:
    """One prompt of each tag."""
    model, roles = embedded(), embedded_roles()
    ranker = SourceRanker()
    prompts = [sample.prompt for sample in load()][::40]
    right = 0
    for seed, prompt in enumerate(prompts):
        attempts = list(correct(Request(prompt, seed=seed), model, roles, ranker))
        assert attempts[0].generation.evaluations == 12
        right += judge(parse(prompt), attempts[select(attempts)].generation.image)
    assert right > len(prompts) / 2
