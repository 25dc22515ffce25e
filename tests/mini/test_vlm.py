"""The embedded roles say what is seen, whoever does the seeing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from npcorrect.errors import ModelError, PromptError, VLMError
from npcorrect.mini.data import sample_pair
from npcorrect.mini.grammar import parse, satisfied
from npcorrect.mini.network import ReaderNetwork
from npcorrect.mini.scene import Background, Scene, Thing, to_image
from npcorrect.mini.vlm import MiniChecklister, MiniEyes, embedded_roles
from npcorrect.records import Caption, Check

PICTURE = Image.new("RGB", (96, 96))


class KnownScene:
    """Sees one given scene in every picture, and counts how often it looks."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.looks = 0
        self.pixels = torch.empty(0)

    def read(self, pixels: Tensor) -> list[tuple[Scene, float]]:
        self.looks += 1
        self.pixels = pixels
        return [(self.scene, 0.9)] * len(pixels)


def row(*things: tuple[str, str, str], at: int = 0) -> tuple[Thing, ...]:
    return tuple(Thing(at, column, *thing) for column, thing in enumerate(things))


CIRCLE, SQUARE, STAR = (
    ("circle", "red", "small"),
    ("square", "blue", "large"),
    ("star", "pink", "medium"),
)


def failed(prompt: str, *things: Thing, ground: Background | None = None) -> dict[str, Check]:
    """The failed checks by the text of their requirement."""
    scene = Scene(things, ground or Background())
    verdict = MiniEyes(KnownScene(scene)).verify(PICTURE, MiniChecklister().checklist(prompt))
    assert all(check.confidence == 0.9 for check in verdict.checks)
    return {c.requirement.text: c for c in verdict.checks if not c.passed}


def observed(prompt: str, *things: Thing, ground: Background | None = None) -> dict[str, str]:
    return {text: c.observed for text, c in failed(prompt, *things, ground=ground).items()}


def test_a_true_picture_is_accepted() -> None:
    assert failed("two red circles and one star", *row(CIRCLE, CIRCLE, STAR)) == {}


def test_a_wrong_count_is_said_with_the_count_that_is_seen() -> None:
    seen = observed("two circles", *row(CIRCLE, CIRCLE, CIRCLE))
    assert seen == {"exactly two circles": "three circles"}
    seen = observed("two circles", *row(CIRCLE))
    assert seen == {"exactly two circles": "one circle"}


def test_wrong_colours_and_sizes_are_said_without_the_right_ones() -> None:
    mixed = row(CIRCLE, ("circle", "blue", "small"), ("circle", "green", "large"))
    assert observed("red circles", *mixed) == {
        "all circles are red": "blue circles and green circles"
    }
    assert observed("small circles", *mixed) == {"all circles are small": "large circles"}


def test_extra_shapes_are_counted() -> None:
    seen = observed("one circle", *row(CIRCLE, STAR), *row(SQUARE, SQUARE, at=1))
    assert seen == {"nothing but circles is visible": "one star and two squares"}


def test_claims_about_what_is_missing_are_moot() -> None:
    seen = observed("one red circle above one square", *row(SQUARE))
    assert set(seen) == {
        "at least one circle is visible",
        "exactly one circle",
        "all circles are red",
        "every circle is above every square",
    }
    assert set(seen.values()) == {""}


def test_a_wrong_relation_is_said_as_it_is_seen() -> None:
    claim = "every circle is to the right of every square"
    prompt = "circles to the right of one square"
    two = (*row(CIRCLE), *row(CIRCLE, at=1), Thing(2, 2, *SQUARE))
    assert observed(prompt, *two)[claim] == "circles to the left of square"
    around = (*row(CIRCLE, SQUARE, CIRCLE),)
    assert observed(prompt, *around)[claim] == ""


def test_a_wrong_background_is_said_claim_by_claim() -> None:
    seen = observed("a striped gray background", ground=Background("plain", "mint"))
    assert seen == {
        "the background is striped": "a plain background",
        "the background is gray": "a mint background",
    }


def test_captions_are_the_training_language_and_its_phrases() -> None:
    scene = Scene(row(CIRCLE, CIRCLE, STAR), Background("striped", "gray"))
    assert MiniEyes(KnownScene(scene)).caption(PICTURE) == Caption(
        "two red circles and one pink star on a striped gray background",
        ("two red circles", "one pink star", "a striped gray background"),
    )
    empty = MiniEyes(KnownScene(Scene(()))).caption(PICTURE)
    assert empty == Caption("a plain white background", ("a plain white background",))


@given(st.randoms(use_true_random=False))
def test_verdicts_agree_with_the_truth_and_what_is_seen_is_language(rng: random.Random) -> None:
    scene, spec = sample_pair(rng)
    eyes = MiniEyes(KnownScene(scene))
    checklist = MiniChecklister().checklist(spec.text())
    for check in eyes.verify(PICTURE, checklist).checks:
        assert check.passed == satisfied(check.requirement, scene)
        if check.observed:
            assert not check.passed
            for part in check.observed.split(" and "):
                parse(part)
    parse(eyes.caption(PICTURE).text)


def test_each_picture_is_looked_at_once_in_its_range() -> None:
    network = KnownScene(Scene(()))
    eyes = MiniEyes(network)
    white = Image.new("RGBA", (96, 96), "white")
    eyes.verify(white, MiniChecklister().checklist("one star"))
    eyes.caption(white)
    assert network.looks == 1
    assert network.pixels.shape == (1, 3, 96, 96)
    assert network.pixels.unique().tolist() == [1.0]
    eyes.caption(PICTURE)
    assert network.looks == 2
    assert network.pixels.unique().tolist() == [-1.0]


def test_a_picture_of_another_size_is_not_guessed_at() -> None:
    with pytest.raises(VLMError, match="96 x 96 pixels, not 64 x 32"):
        MiniEyes(KnownScene(Scene(()))).caption(Image.new("RGB", (64, 32)))


def test_a_prompt_of_another_world_is_refused() -> None:
    with pytest.raises(PromptError, match="dog"):
        MiniChecklister().checklist("three dogs")


def test_embedded_roles_load_the_network(tmp_path: Path) -> None:
    save_file(ReaderNetwork().state_dict(), tmp_path / "reader.safetensors")
    roles = embedded_roles(tmp_path)
    scene = Scene(row(CIRCLE))
    verdict = roles.verifier.verify(to_image(scene), roles.checklister.checklist("one circle"))
    assert len(verdict.checks) == 3
    assert roles.captioner.caption(to_image(scene)).text
    with pytest.raises(ModelError, match="missing"):
        embedded_roles(tmp_path / "nowhere")


def test_a_moot_claim_needs_only_one_failed_claim_it_depends_on() -> None:
    checklist = MiniChecklister().checklist("one circle above one square")
    relation = next(c for c in checklist.requirements if c.kind == "relation")
    eyes = MiniEyes(KnownScene(Scene(row(CIRCLE))))
    checks = eyes.verify(PICTURE, checklist).checks
    assert [c.passed for c in checks if c.requirement == relation] == [False]
