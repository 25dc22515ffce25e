"""Pictures are drawn again from their record, looks, rewinds, batches and all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from npcorrect.diffusion.base import UNWATCHED, Watch
from npcorrect.diffusion.fake import FAKE_DEFAULTS, FakeImageModel
from npcorrect.errors import InputError, SettingsError
from npcorrect.records import Caption, Drawing, Generation, Request
from npcorrect.redraw import read_recipe, redraw
from npcorrect.result import Result
from tests.fakes import FakeViewer, session

DEFAULTS = replace(
    FAKE_DEFAULTS, rule="extra", num_inference_steps=12, looks=3, rewinds=2, strength=0.5
)
REQUEST = Request("three apples", seed=7, candidates=3, ranker="source")


@dataclass
class Changing(FakeViewer):
    """Describes pictures by turns, so that looks change the negative, or do not."""

    captions: Sequence[str] = ("a",)
    described: int = 0

    def caption(self, image: Image.Image) -> Caption:
        self.described += 1
        return Caption(self.captions[self.described % len(self.captions)])


def corrected(request: Request, viewer: FakeViewer, **more: Any) -> Result:
    correction = session(viewer, DEFAULTS).correct(request, **more)
    for _ in correction:
        pass
    return correction.result


def drawn_again(place: Path) -> dict[int, Generation]:
    return dict(redraw(read_recipe(place), FakeImageModel(DEFAULTS)))


def same(one: Generation, other: Generation) -> bool:
    """Whether both were drawn by the same steps; the fake's pictures do not show them."""
    facts = ("steering", "rewinds", "looks", "answers", "receipt", "start_step", "evaluations")
    alike = all(getattr(one, name) == getattr(other, name) for name in facts)
    return alike and replace(one.drawing, origin=None) == replace(other.drawing, origin=None)


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(["", "four apples"]), min_size=1, max_size=30),
    st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=5),
    st.sampled_from([1, 2]),
    st.sampled_from([None, "0..8", "6..12", "8..12", "9..10", 9, "sigma:0.3", "sigma:0.9..0.3"]),
    st.sampled_from(["extra", "turns"]),
)
def test_whatever_looks_said_is_said_again(
    tmp_path_factory: pytest.TempPathFactory,
    sees: list[str],
    captions: list[str],
    batch: int,
    negative: int | str | None,
    rule: str,
) -> None:
    place = tmp_path_factory.mktemp("out")
    request = replace(REQUEST, batch=batch, negative=negative, rule=rule)
    result = corrected(request, Changing(["four apples", *sees], captions=captions))
    result.save(place)
    again = drawn_again(place)
    assert [*again] == [attempt.index for attempt in result.attempts]
    assert all(same(a.generation, again[a.index]) for a in result.attempts)


@pytest.mark.parametrize("rule", ["paper", "extra"])
def test_the_users_negative_is_said_again(rule: str, tmp_path: Path) -> None:
    request = replace(REQUEST, rule=rule, negative_prompt="lowres")
    result = corrected(request, Changing(["four apples"]))
    result.save(tmp_path)
    again = drawn_again(tmp_path)
    assert [one.drawing.standing_negative for one in again.values()] == ["lowres"] * 4
    assert all(same(a.generation, again[a.index]) for a in result.attempts)


def test_a_picture_alone_is_enough(tmp_path: Path) -> None:
    result = corrected(REQUEST, Changing(["four apples"], captions=["a", "b", "a b"]))
    result.save(tmp_path / "out")
    for attempt in result.attempts[1:]:
        alone = tmp_path / "alone.png"
        alone.write_bytes((tmp_path / "out" / f"attempt-{attempt.index}.png").read_bytes())
        again = drawn_again(alone)
        assert [*again] == [attempt.index]
        assert same(attempt.generation, again[attempt.index])


def test_a_picture_that_existed_is_begun_with_again(tmp_path: Path) -> None:
    given_picture = Image.new("RGB", (16, 16), "blue")
    result = corrected(REQUEST, Changing(["four apples"]), original=given_picture)
    result.save(tmp_path)
    again = drawn_again(tmp_path)
    assert [*again] == [1, 2, 3]
    assert all(same(a.generation, again[a.index]) for a in result.attempts[1:])
    with pytest.raises(SettingsError, match="begins with a picture that existed"):
        drawn_again(tmp_path / "best.png" if result.best_index else tmp_path / "attempt-1.png")


class Together(FakeImageModel):
    """Draws pictures that tell how many were drawn with them."""

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        size = len(drawings)
        return [replace(one, evaluations=size) for one in super().draw(drawings, watch)]


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("begun", [0, 1, 2, 3])
def test_batches_of_redrawings_without_a_negative_are_those_of_the_correction(
    batch: int, begun: int, tmp_path: Path
) -> None:
    defaults = replace(FAKE_DEFAULTS, fresh_from=2, seeds_suffice=frozenset({"count"}))
    request = replace(REQUEST, candidates=6, batch=batch)
    opened = replace(session(FakeViewer()), model=Together(defaults))
    correction = opened.correct(request)
    attempts = list(correction)
    assert [one.ranked is None for one in attempts] == [True, False, *[True] * 5]
    correction.result.save(tmp_path)
    again = dict(redraw(read_recipe(tmp_path), Together(defaults)))
    assert all(same(one.generation, again[one.index]) for one in attempts)
    ends = [1, *range(2, 7, batch)]  # the attempt after each batch's last, but for the end
    kept = replace(correction.result, attempts=tuple(attempts[: ends[begun % len(ends)]]))
    further = opened.correct(request, begun=kept)
    assert all(same(one.generation, attempts[one.index].generation) for one in further)


@pytest.mark.parametrize("name", ["result.json", "original.png", "best.png"])
def test_an_original_that_was_accepted_is_not_drawn_again(name: str, tmp_path: Path) -> None:
    for first in (Image.new("RGB", (16, 16)), corrected(REQUEST, FakeViewer([""])).best.generation):
        corrected(REQUEST, FakeViewer([""]), original=first).save(tmp_path)
        with pytest.raises(SettingsError, match="was not drawn: it existed before"):
            read_recipe(tmp_path / name)


def test_what_is_not_there_any_more_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    given_picture = Image.new("RGB", (16, 16))
    corrected(REQUEST, Changing(["four apples"]), original=given_picture).save(tmp_path)
    (tmp_path / "original.png").unlink()
    with pytest.raises(SettingsError, match="existed before; give the folder"):
        read_recipe(tmp_path)


@pytest.mark.parametrize("steps", [12, 6])
def test_an_earlier_original_is_begun_with_again_where_its_pixels_were(
    steps: int, tmp_path: Path
) -> None:
    first = corrected(replace(REQUEST, steps=6), FakeViewer([""])).best.generation
    result = corrected(
        replace(REQUEST, steps=steps, looks=1), Changing(["four apples"]), original=first
    )
    result.save(tmp_path)
    if steps == 6:  # it began with the latents, which may differ from what the pixels give
        with pytest.raises(SettingsError, match="latents of an earlier correction"):
            read_recipe(tmp_path)
        return
    again = drawn_again(tmp_path)
    assert [*again] == [1, 2, 3]
    assert all(same(a.generation, again[a.index]) for a in result.attempts[1:])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"made_with": None}, "how its pictures were made"),
        ({"attempts": []}, "how its pictures were made"),
        ({"attempts": [{"generation": 3}]}, "cannot be read"),
        ({"request": {"prompt": ""}}, "prompt is empty"),
        ({"schema_version": 9}, "version 9"),
    ],
)
def test_a_damaged_record_is_one_sentence(change: Any, says: str, tmp_path: Path) -> None:
    corrected(REQUEST, FakeViewer([""])).save(tmp_path)
    record = json.loads((tmp_path / "result.json").read_text()) | change
    (tmp_path / "result.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=says):
        read_recipe(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("height", 10**6), ("num_inference_steps", 10**9)])
def test_a_record_cannot_ask_for_more_than_a_user(name: str, value: int, tmp_path: Path) -> None:
    corrected(REQUEST, FakeViewer([""])).save(tmp_path)
    record = json.loads((tmp_path / "result.json").read_text())
    record["attempts"][0]["generation"][name] = value
    (tmp_path / "result.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=str(value)):
        read_recipe(tmp_path)


def test_a_record_cannot_say_that_a_models_code_is_trusted(tmp_path: Path) -> None:
    corrected(REQUEST, FakeViewer([""])).save(tmp_path)
    record = json.loads((tmp_path / "result.json").read_text())
    record["made_with"]["load"]["trust_remote_code"] = True
    (tmp_path / "result.json").write_text(json.dumps(record))
    assert read_recipe(tmp_path).made_with.load.trust_remote_code is False


def test_a_picture_without_a_record_is_one_sentence(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(SettingsError, match="has no record"):
        read_recipe(tmp_path / "a.png")
