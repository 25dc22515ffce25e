"""A record says by what pictures were made, so that a change can be seen."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from diffusers import FlowMatchEulerDiscreteScheduler

from npcorrect.diffusion.fake import FakeImageModel
from npcorrect.provenance import Provenance, provenance
from npcorrect.settings import LoadSettings, RoleSettings


def made(load: LoadSettings, weights: Path) -> Provenance:
    return provenance(FakeImageModel(), load, RoleSettings(), weights)


def test_a_file_is_known_by_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"weights")
    assert made(LoadSettings(model=str(file)), file).weights == sha256(b"weights").hexdigest()


def test_a_file_that_was_written_again_is_another(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    hashes = []
    for second, content in enumerate((b"weights", b"weight2", b"weights")):
        file.write_bytes(content)
        os.utime(file, (second, second))
        hashes += [made(LoadSettings(model=str(file)), file).weights for _ in range(2)]
    first, other = (sha256(content).hexdigest() for content in (b"weights", b"weight2"))
    assert hashes == [first, first, other, other, first, first]


def test_an_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"weights")
    known = made(LoadSettings(model=str(file)), file).weights
    monkeypatch.setattr("npcorrect.provenance.file_digest", None)
    assert made(LoadSettings(model=str(file)), file).weights == known


def test_a_folder_is_known_by_all_its_weights(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "a.safetensors").write_bytes(b"one")
    load = LoadSettings(model=str(tmp_path))
    before = made(load, tmp_path).weights
    (tmp_path / "notes.txt").write_text("no weights")
    assert made(load, tmp_path).weights == before
    (tmp_path / "vae" / "b.safetensors").write_bytes(b"two")
    assert made(load, tmp_path).weights != before


def test_a_name_from_the_hub_that_is_not_here_has_neither() -> None:
    one = made(LoadSettings(model="nobody/nothing"), Path("nobody/nothing"))
    assert (one.revision, one.weights) == ("", "")


def test_what_lends_a_file_the_rest_is_known_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = {("lender/model", "main"): "c1", ("own/vlm", None): "c2", ("own/lora", None): "c3"}
    monkeypatch.setattr("npcorrect.provenance._commit", lambda *asked: commits.get(asked, ""))
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"weights")
    load = LoadSettings(model=str(file), revision="main", lora=("own/lora=0.5",))
    roles = RoleSettings(vlm="local:own/vlm", captioner=f"local:{file}", verifier="openai:x")
    one = provenance(FakeImageModel(), load, roles, file, "lender/model")
    assert one.revision == "c1"
    assert one.weights == sha256(b"weights").hexdigest()
    assert one.loras == ("c3",)
    assert one.vlms == {"local:own/vlm": "c2", f"local:{file}": one.weights}


def test_the_scheduler_and_the_versions_are_known() -> None:
    model = FakeImageModel()

    class Pipeline:
        scheduler = FlowMatchEulerDiscreteScheduler()

    model.pipeline = Pipeline()  # type: ignore[attr-defined]
    one = provenance(model, LoadSettings(), RoleSettings(), Path("nowhere"))
    assert (one.scheduler, one.sampler) == ("FlowMatchEulerDiscreteScheduler", "Euler")
    assert {"python", "npcorrect", "torch", "diffusers"} <= {*one.versions}


def test_what_has_changed_is_named_with_both_values() -> None:
    one = Provenance(weights="a", versions={"torch": "1"})
    other = replace(one, weights="b", versions={"torch": "2"})
    assert one.differences(other) == ("weights: a, now b", "torch: 1, now 2")
    assert one.differences(one) == ()


def test_budgets_and_caches_ask_for_nothing_else() -> None:
    one = Provenance(roles=RoleSettings(vlm="local:a", budget="5 calls"))
    assert one.asks_the_same(Provenance(roles=RoleSettings(vlm="local:a", cache=False)))
    assert not one.asks_the_same(Provenance(roles=RoleSettings(vlm="local:b")))
    assert not one.asks_the_same(replace(one, load=LoadSettings(dtype="bfloat16")))
