"""Originals, models and roles that are somebody's own: of any mode, and with any answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npcorrect.diffusion.base import UNWATCHED, Watch
from npcorrect.diffusion.fake import FakeImageModel, looking
from npcorrect.errors import ModelError, SettingsError
from npcorrect.files import png
from npcorrect.loop import correct, sized
from npcorrect.ranking import SourceRanker
from npcorrect.records import Drawing, Origin, Verdict
from npcorrect.result import load_result
from tests.test_loop import REQUEST, FakeRoles, begin, scored


def test_what_an_original_took_elsewhere_is_not_paid_again() -> None:
    model = FakeImageModel()
    first = next(begin(scored(4), model=model)).generation
    assert first.evaluations > 0
    roles = FakeRoles((scored(2), scored(4))).roles()
    correction = correct(REQUEST, model, roles, SourceRanker(), original=first)
    original, redrawn = correction
    assert (original.cost.images, original.cost.evaluations) == (0, 0)
    assert correction.result.cost.evaluations == redrawn.generation.evaluations


def test_redrawings_have_the_size_of_an_earlier_generation() -> None:
    model = FakeImageModel(replace(looking(looks=0), strength=0.5))
    large = replace(REQUEST, size=32)
    first = next(begin(scored(4), model=model, request=large)).generation
    roles = FakeRoles((scored(2), scored(4))).roles()
    original, redrawn = correct(REQUEST, model, roles, SourceRanker(), original=first)
    assert original.generation.image.size == redrawn.generation.image.size == (32, 32)
    assert model.drawings[-1][0].origin is first.origin


@pytest.mark.parametrize("mode", ["CMYK", "F", "HSV", "LAB", "P", "RGBA", "I;16", "1"])
def test_an_original_of_any_mode_is_corrected_and_kept(mode: str, tmp_path: Path) -> None:
    roles = FakeRoles((scored(2), scored(4))).roles()
    picture = Image.new(mode, (16, 16))
    correction = correct(REQUEST, FakeImageModel(), roles, SourceRanker(), original=picture)
    assert [one.generation.image.mode for one in correction] == ["RGB", "RGB"]
    correction.result.save(tmp_path)
    assert load_result(tmp_path).outcome == "corrected"


def test_an_original_is_turned_upright_as_files_are() -> None:
    picture = Image.new("RGB", (32, 16))
    picture.getexif()[0x0112] = 6
    roles = FakeRoles((scored(2), scored(4))).roles()
    attempts = correct(REQUEST, FakeImageModel(), roles, SourceRanker(), original=picture)
    assert [one.generation.image.size for one in attempts] == [(16, 32)] * 2


def test_an_original_whose_pixels_cannot_be_read_is_refused_at_once() -> None:
    roles = FakeRoles(())
    broken = Image.open(BytesIO(png(Image.effect_noise((64, 64), 90).convert("RGB"))[:900]))
    with pytest.raises(SettingsError, match="'original' cannot be read"):
        correct(REQUEST, FakeImageModel(), roles.roles(), SourceRanker(), original=broken)
    assert not roles.asked


@pytest.mark.parametrize("size", [(1, 1), (16, 8), (16, 20000)])
def test_an_original_that_is_too_small_or_large_is_named(size: tuple[int, int]) -> None:
    with pytest.raises(SettingsError, match=r"The original: .*'height' is"):
        sized(REQUEST, Image.new("1", size))


def test_an_earlier_original_keeps_its_own_latents_whatever_was_begun_with_it() -> None:
    model = FakeImageModel(replace(looking(looks=0), strength=0.5))
    first = next(begin(scored(4), model=model)).generation
    for steps in (8, 4):
        roles = FakeRoles((scored(2), scored(4))).roles()
        request = replace(REQUEST, steps=steps)
        first, redrawn = (
            one.generation for one in correct(request, model, roles, SourceRanker(), original=first)
        )
        origin = model.drawings[-1][0].origin
        assert origin is not None
        assert len(origin.sigmas) == steps + 1
        assert redrawn.start_step == steps // 2


@pytest.mark.parametrize("candidates", [0, 3])
def test_only_redrawings_need_an_original_to_begin_with(candidates: int) -> None:
    class Counting(FakeImageModel):
        read = 0

        def origin(self, image: Image.Image, drawing: Drawing) -> Origin | None:
            self.read += 1
            return super().origin(image, drawing)

    model = Counting(replace(looking(looks=0), strength=0.5))
    request = replace(REQUEST, candidates=candidates)
    roles = FakeRoles((scored(2), scored(4))).roles()
    picture = Image.new("RGB", (16, 16))
    list(correct(request, model, roles, SourceRanker(), original=picture))
    assert (model.read > 0) == (candidates > 0)


@pytest.mark.parametrize(
    "gives",
    [
        lambda drawn: drawn[:-1],
        lambda drawn: drawn * 2,
        lambda drawn: None,
        lambda drawn: [one.image for one in drawn],
        lambda drawn: [replace(one, image=np.asarray(one.image)) for one in drawn],
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_model_that_draws_something_else_is_one_sentence(gives: Any, first: bool) -> None:
    class Own(FakeImageModel):
        def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> Any:
            drawn = super().draw(drawings, watch)
            return gives(drawn) if first or len(self.drawings) > 1 else drawn

    correction = begin(scored(2), scored(4), model=Own())
    with pytest.raises(ModelError, match=r"'fake' gave .*one for each"):
        list(correction)
    assert len(correction.result.attempts) == (0 if first else 1)


@pytest.mark.parametrize("answer", [None, True, "yes", ("x",), [Verdict(())]])
@pytest.mark.parametrize("role", ["checklister", "verifier", "captioner", "proposer"])
def test_a_role_that_answers_something_else_gave_no_answer(
    role: str, answer: Any, tmp_path: Path
) -> None:
    own: dict[str, Any] = {role: Own(answer)}
    roles = replace(FakeRoles([scored(2)] * 9).roles(), **own)
    correction = correct(REQUEST, FakeImageModel(), roles, SourceRanker())
    attempts = list(correction)
    unscored = role in ("checklister", "verifier")
    assert (attempts[0].verdict.accepted is None) == unscored
    assert ("no answer of its role" in attempts[0].verdict.error) == unscored
    assert (len(attempts) == 1) == unscored
    correction.result.save(tmp_path)


@dataclass
class Own:
    """Any role, with one answer to whatever it is asked."""

    answer: Any

    def checklist(self, *_: object) -> Any:
        return self.answer

    verify = caption = propose = checklist
