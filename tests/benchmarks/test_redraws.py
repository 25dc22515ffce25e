"""The study of redrawings draws as the stock pipeline does, names faults, and counts right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from diffusers import FluxPipeline
from torch import Tensor

from benchmarks.redraw_faults import faults, kept, negatives, right_things
from benchmarks.redraw_report import Row, curve, level, policies_tables, remedies_table
from benchmarks.redraw_studio import STEPS, Drawn, Job, Studio, schedule
from benchmarks.redraws import POLICIES, REMEDIES, Case, Remedy, follow, policies, redraws
from npcorrect.mini import judge
from npcorrect.mini.autoencoder import CODE
from npcorrect.mini.checklist import meets
from npcorrect.mini.family import DEFAULTS, FAMILY
from npcorrect.mini.grammar import parse
from npcorrect.mini.language import MAX_TOKENS
from npcorrect.mini.model import SHIFT
from npcorrect.mini.scene import IMAGE_SIZE, Scene, Thing
from npcorrect.plan import plan
from npcorrect.records import Request
from tests.diffusion.shallow import shallow


def thing(
    kind: str, color: str = "red", row: int = 0, column: int = 0, size: str = "medium"
) -> Thing:
    return Thing(row, column, kind, color, size)


def cups(count: int, color: str = "red") -> list[Thing]:
    return [thing("cup", color, row=2, column=column) for column in range(count)]


class Sees:
    """Sees no thing in any picture."""

    def read(self, pixels: Tensor) -> list[tuple[Scene, float]]:
        return [(Scene(()), 1.0)] * len(pixels)


class Still(Studio):
    """Never moves away from what a picture begins with."""

    def _velocity(self, x: Tensor, sigma: float, states: Tensor, pooled: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Copies(Studio):
    """Draws the same scene whatever it is asked for."""

    def __init__(self, *things: Thing) -> None:
        self.scene = Scene(tuple(things))

    def draw(self, jobs: Sequence[Job], description: str) -> list[Drawn]:
        right = [meets(parse(job.prompt), self.scene) for job in jobs]
        return [Drawn(torch.ones(9, CODE), self.scene, each, each) for each in right]


@pytest.fixture(scope="module")
def pipeline() -> FluxPipeline:
    return shallow()


def test_pictures_are_those_of_the_stock_pipeline(pipeline: FluxPipeline) -> None:
    """With the negative in every step for one, in none for the other, in one batch."""
    prompts, seeds = ("two red cups", "a cat above a dog"), (5, 7)
    jobs = [
        Job(prompts[0], 5, negative="three red cups", scale=3.0, stop=STEPS),
        Job(prompts[1], 7),
    ]
    stock = [
        pipeline(
            job.prompt,
            negative_prompt=job.negative or None,
            true_cfg_scale=job.scale,
            guidance_scale=2.5,
            height=IMAGE_SIZE,
            width=IMAGE_SIZE,
            num_inference_steps=STEPS,
            max_sequence_length=MAX_TOKENS,
            generator=torch.Generator().manual_seed(seed),
            output_type="latent",
        ).images
        for job, seed in zip(jobs, seeds, strict=True)
    ]
    torch.testing.assert_close(
        Studio(pipeline, Sees()).sample(jobs), torch.cat(stock), rtol=1e-4, atol=1e-4
    )


def test_a_redrawing_begins_with_the_original_at_the_noise_level_of_its_step(
    pipeline: FluxPipeline,
) -> None:
    studio = Still(pipeline, Sees())
    original, sigma = torch.ones(9, CODE), schedule(STEPS, SHIFT)[3]
    first, second, back = studio.sample(
        [Job("a cup", 1), Job("a cup", 2), Job("a cup", 2, start=3, original=original)]
    )
    torch.testing.assert_close(back, sigma * second + (1 - sigma) * original)
    assert not torch.allclose(first, second)


def test_the_template_judge_says_what_is_right_if_asked(
    pipeline: FluxPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "judge", lambda spec, image: image.size == (192, 192))
    (own,) = Still(pipeline, Sees()).draw([Job("a cup", 1)], "")
    (other,) = Still(pipeline, Sees(), by_template=True).draw([Job("a cup", 1)], "")
    assert (own.accepted, own.right) == (False, False)
    assert (other.accepted, other.right) == (False, True)


def test_evaluations_are_steps_and_steps_with_a_negative() -> None:
    assert Job("a cup", 1).evaluations == STEPS
    assert Job("a cup", 1, "two cups", 3.0, start=1, stop=6).evaluations == STEPS - 1 + 5
    assert Job("a cup", 1, "two cups", 3.0, start=4, stop=1).evaluations == STEPS - 4


@pytest.mark.parametrize(
    ("prompt", "things", "kinds"),
    [
        ("two red cups", cups(2), set()),
        ("two red cups", cups(3), {"count"}),
        ("two red cups", cups(1, "blue"), {"colour", "count"}),
        ("a cup and a red dog", cups(1), {"count"}),
        ("a cup above a dog", [*cups(1), thing("dog")], {"place"}),
        ("a cup above a dog", cups(1), {"count"}),
        ("a cup on the top", cups(1), {"place"}),
        ("a small cup", cups(1), {"size"}),
    ],
)
def test_faults_are_of_a_few_kinds(prompt: str, things: list[Thing], kinds: set[str]) -> None:
    assert faults(prompt, Scene(tuple(things))) == kinds


def test_negatives_name_the_faults_and_fall_back_on_the_caption() -> None:
    texts = negatives("two red cups", Scene(tuple(cups(3))))
    assert texts["as drawn"] == texts["caption"] == "three red cups"
    assert texts["targeted"] == "three cups"
    assert texts["empty"] == ""
    both = negatives("two red cups and a dog", Scene((*cups(3, "blue"), thing("dog"))))
    assert both["targeted"] == "three cups, blue cups"
    assert both["as drawn"] == "three blue cups and one dog"
    nothing = negatives("two red cups", Scene((thing("dog", "brown"),)))
    assert nothing["as drawn"] == nothing["targeted"] == "one brown dog"


def test_right_things_are_of_kinds_of_which_all_is_right() -> None:
    cup, blue, dog = thing("cup"), thing("cup", "blue", 1), thing("dog", row=2)
    scene = Scene((cup, blue, dog, thing("cat", column=2)))
    assert right_things("two red cups and a dog", scene) == [dog]
    assert right_things("cups and two dogs", scene) == [cup, blue]
    assert right_things("a cup above a dog", Scene((cup,))) == [cup]
    assert right_things("a dog above a cup", Scene((cup, dog))) == []


def test_kept_compares_cells_colours_and_grounds() -> None:
    prompt = "two red cups"
    before = Scene((thing("cup"), thing("cup", column=1), thing("dog", row=2)))
    after = Scene((thing("cup"), thing("cup", "blue", column=1)), "sky")
    assert kept(prompt, before, after) == {"things": 0.5, "cells": 7 / 9, "grounds": 0.0}
    assert kept("three cups", before, after)["things"] is None


def test_levels_by_the_share_of_right_pictures() -> None:
    assert [level(ease) for ease in (0, 0.2, 0.21, 0.6, 0.61)] == [
        "hard",
        "hard",
        "middle",
        "middle",
        "easy",
    ]


def a_row(seed: int = 0, number: int = 0, right: bool = False, way: str = "new") -> Row:
    kept = {"things": None, "cells": 1.0, "grounds": 0.0}
    return Row(way, "two cups", seed, number, "", 12, right, right, "hard", ("count",), kept)


def test_curves_count_cases_that_are_right_within_what_they_cost() -> None:
    rows = [a_row(0, right=True), a_row(1), a_row(1, 1), a_row(1, 2, right=True), a_row(2)]
    assert curve(rows, lambda _: 1, (1, 2, 3)) == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert curve(rows, lambda r: r.evaluations, (11, 12, 36)) == pytest.approx([0, 1 / 3, 2 / 3])
    accepted = replace(a_row(), accepted=True)
    assert curve([accepted], lambda _: 1, (1,)) == [0]


def test_tables_are_markdown_with_intervals() -> None:
    rows = [a_row(n, right=n % 2 == 0) for n in range(4)]
    line = remedies_table(rows).splitlines()[2]
    assert line.startswith("| new | 4 | 50.0% [15.0%, 85.0%] |  | 50.0% |  |  | 50.0% |  |  |")
    images, cost, means = policies_tables(rows).split("\n\n")
    assert images.splitlines()[2] == f"| new |{' 50.0% |' * 8}"
    assert cost.splitlines()[0].startswith("| within evaluations | 12 | 24 |")
    assert means.splitlines()[2].startswith("| new | 1.00 | 12.00 |")


def a_case(*things: Thing) -> Case:
    return Case("two red cups", 20, Drawn(torch.ones(9, CODE), Scene(things), False, False), 0.0)


def test_jobs_take_noise_and_window_from_the_remedy() -> None:
    case = a_case()
    job = case.job(Remedy("caption", 5.0, 2, 5, new_noise=True), "one dog", 3)
    assert (job.seed, job.start, job.stop, job.scale) == (23, 2, 5, 5.0)
    assert job.original is case.drawn.tokens
    plain = case.job(Remedy(None), "")
    assert (plain.seed, plain.stop, plain.original) == (20, 0, None)


def test_every_remedy_redraws_some_failed_pictures_of_each_prompt() -> None:
    groups = [[a_case(*cups(3))] * 5, [replace(a_case(), prompt="two cats")]]
    rows = redraws(Copies(*cups(2)), groups, 3)
    assert len({r.way for r in rows}) == len(REMEDIES)
    assert len(rows) == len(REMEDIES) * 4
    assert all(r.right == (r.prompt == "two red cups") for r in rows)
    others = {r.prompt: r.negative for r in rows if r.way.startswith("another's")}
    assert others["two cats"] == "three cups"


def test_a_policy_goes_on_until_the_verifier_accepts() -> None:
    cases = [a_case(*cups(3)), replace(a_case(*cups(1)), prompt="a cup", seed=40)]
    rows = [*follow(Copies(*cups(1)), "keep", POLICIES["keep"], cases)]
    numbers = [r.number for r in rows if r.seed == 20]
    assert numbers == list(range(8))
    assert [r.number for r in rows if r.seed == 40] == [0, 1]
    assert rows[-1].negative == "three red cups"


def test_a_remedy_may_act_without_its_negative_where_counts_alone_are_wrong() -> None:
    remedy = Remedy("as drawn", 8.0, 2, 4, new_noise=True, but_counts=True)
    counts = a_case(*cups(3)).job(remedy, "three red cups")
    assert (counts.start, counts.stop, counts.negative, counts.evaluations) == (2, 2, "", 10)
    colours = a_case(*cups(2, "blue")).job(remedy, "two blue cups")
    assert (colours.stop, colours.negative) == (4, "two blue cups")


def test_policies_begin_with_the_first_pictures_of_each_prompt() -> None:
    groups = [[a_case(*cups(3)), replace(a_case(), seed=30), replace(a_case(), seed=40)]]
    rows = policies(Copies(*cups(1)), groups, 2)
    assert {r.way for r in rows} == {*POLICIES}
    assert {r.seed for r in rows} == {20, 30}


def test_the_default_of_the_embedded_model_is_among_the_remedies() -> None:
    template = plan(Request("a cup"), FAMILY, DEFAULTS).template
    default = Remedy("as drawn", template.true_cfg_scale, template.restart_step, template.window[1])
    assert default in REMEDIES
    assert POLICIES["same seed first"][0] == default
