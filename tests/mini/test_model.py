"""The shipped weights are small, whole and guarded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from npcorrect.errors import ModelError
from npcorrect.mini.family import MAX_TOKENS
from npcorrect.mini.model import WEIGHTS, build_tokenizer, load_pipeline


def test_all_weights_together_stay_under_20_mb() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.glob("*")) < 20e6


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


def test_every_word_is_one_token_and_texts_end() -> None:
    tokenizer = build_tokenizer()
    ids = tokenizer("Three red circles, and one blue square.").input_ids
    assert tokenizer.unk_token_id not in ids
    assert len(ids) == 8
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.model_max_length == MAX_TOKENS
