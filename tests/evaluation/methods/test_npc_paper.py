"""``npc-paper`` clause by clause: it is the released loop, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from npcorrect.diffusion.base import Reading, TokenStates
from npcorrect.diffusion.fake import FakeImageModel
from npcorrect.diffusion.families import FAMILIES
from npcorrect.errors import BudgetError, ModelError, NpcError, VLMError
from npcorrect.evaluation.benchmarks.base import Sample
from npcorrect.evaluation.methods import find
from npcorrect.evaluation.methods.base import Task
from npcorrect.evaluation.methods.npc_paper import ShortProposer, released
from npcorrect.evaluation.run.fake import DEFAULTS, FakeRoles
from npcorrect.mini.embedded import embedded
from npcorrect.mini.roles import embedded_roles
from npcorrect.plan import plan
from npcorrect.ranking import paper_ranker
from npcorrect.records import (
    Attempt,
    Candidate,
    Caption,
    Check,
    Checklist,
    Request,
    Requirement,
    Verdict,
)
from npcorrect.session import Session
from npcorrect.settings import DrawSettings

PROMPT, SEED = "three red apples", 40
CAPTION = "four apples and one blue cup on a wooden table in a room"
PHRASES = tuple(f"{number} blue cups on a table" for number in range(20, 40))
GUIDED = sorted(name for name, family in FAMILIES.items() if "paper" in family.rules)


class Encoder(FakeImageModel):
    """A model whose token states differ from letter to letter, so that scores do."""

    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        rng = np.random.default_rng(0)
        letters = rng.normal(size=(128, 8)).astype(np.float32)
        return [
            TokenStates(letters[[ord(c) for c in text]], np.zeros(len(text), dtype=bool))
            for text in texts
        ]


class Stubborn(FakeRoles):
    """Accepts nothing, and proposes as much as it is asked for, the whole caption first."""

    def __init__(self) -> None:
        self.limits: list[int] = []

    def verify(self, image: Image.Image, checklist: Checklist) -> Verdict:
        return Verdict(tuple(Check(claim, False) for claim in checklist.requirements))

    def propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, limit: int
    ) -> tuple[Candidate, ...]:
        self.limits.append(limit)
        named = (Candidate(text, "targeted") for text in PHRASES)
        return (Candidate(CAPTION, "combined"), *named)[:limit]


def task(
    model: FakeImageModel, roles: Stubborn, images: int = 6, draw: DrawSettings | None = None
) -> Task:
    session = Session(model, roles.roles())
    return Task(Sample(1, "", PROMPT, SEED), images, session, draw or DrawSettings())


def first(some: Task, number: int) -> list[Attempt]:
    return list(islice(find("npc-paper").attempts(some), number))


def negatives(attempts: Sequence[Attempt]) -> list[str | None]:
    return [attempt.generation.drawing.negative_prompt for attempt in attempts]


@pytest.mark.parametrize("images", [2, 6, 11])
def test_five_short_candidates_are_proposed_however_many_pictures_there_may_be(
    images: int,
) -> None:
    roles, model = Stubborn(), Encoder(DEFAULTS)
    attempts = first(task(model, roles, images), 7)
    assert set(negatives(attempts[1:6])) == set(PHRASES[:5])
    assert roles.limits == [6], "the whole caption, which is too long, and five"
    assert all(len(text.split()) <= 6 for text in negatives(attempts[1:6]) if text)
    assert acting(attempts[6]) == (SEED + 6, None), "the loop begins anew from an unused seed"


def acting(attempt: Attempt) -> tuple[int, str | None]:
    return attempt.generation.drawing.seed, attempt.generation.drawing.negative_prompt


def test_all_five_are_ranked_by_the_released_score_and_tried_in_that_order() -> None:
    model = Encoder(DEFAULTS)
    settings = DrawSettings(ranker="source")
    attempts = first(task(model, Stubborn(), draw=settings), 6)
    five = [Candidate(text, "targeted") for text in PHRASES[:5]]
    ranking = paper_ranker(model).rank(Checklist(PROMPT, ()), five)
    assert [attempt.ranked for attempt in attempts[1:]] == list(ranking)
    assert [ranked.candidate for ranked in ranking] != five


def test_the_seed_stays_the_originals_and_nobody_looks_or_begins_in_the_middle() -> None:
    settings = DrawSettings(fresh=True, looks=1, rewinds=1, strength=0.5)
    attempts = first(task(Encoder(DEFAULTS), Stubborn(), draw=settings), 6)
    drawings = [attempt.generation.drawing for attempt in attempts]
    assert {d.seed for d in drawings} == {SEED}
    assert {d.rule for d in drawings} == {"paper"}
    assert {(d.look_steps, d.restart_step, d.max_rewinds) for d in drawings} == {((), 0, 0)}


@pytest.mark.parametrize("name", GUIDED)
def test_the_window_is_three_fiftieths_and_the_scale_the_familys_own(name: str) -> None:
    row = FAMILIES[name]
    request = Request("a cat", scale=7.7, negative=0.5, rule="extra", steps=50, candidates=5)
    made = plan(released(request), row, row.defaults)
    for drawing in (made.drawing(0, None), made.drawing(1, "two cats")):
        assert drawing.window == (0, 3)
        assert drawing.true_cfg_scale == row.defaults.true_cfg_scale
        assert drawing.seed == request.seed


def test_flux_dev_is_drawn_as_released() -> None:
    row = FAMILIES["flux-dev"]
    template = plan(released(Request("a cat")), row, row.defaults).template
    assert (template.num_inference_steps, template.window) == (50, (0, 3))
    assert template.true_cfg_scale == 1.8
    assert row.arguments == {"guidance_scale": 3.5}
    assert row.after == "alone"


def test_the_miniature_models_original_is_the_one_that_everyone_draws() -> None:
    """It is distilled as FLUX.1 [dev] is: no guidance before a negative acts, then the paper's."""
    session = Session(embedded(), embedded_roles())
    some = Task(Sample(1, "", "two red bananas", 3), 2, session, DrawSettings(steps=4))
    (paper,), (base,) = (
        list(islice(find(name).attempts(some), 1)) for name in ("npc-paper", "base")
    )
    assert paper.generation.image.tobytes() == base.generation.image.tobytes()
    assert paper.generation.evaluations == base.generation.evaluations == 4
    assert paper.generation.drawing.true_cfg_scale == 1.8


@pytest.mark.parametrize("failure", [VLMError("mumble"), ModelError("gone")])
def test_where_the_proposer_has_no_answer_rules_propose_as_few_and_as_short(
    failure: NpcError,
) -> None:
    made = ShortProposer(Failing(failure)).propose(*SEEN, 15)
    both = "four apples and blue cup"
    assert [c.negative_prompt for c in made] == ["four apples", both, "a blue cup"]


def test_a_spent_budget_is_not_made_up_for() -> None:
    with pytest.raises(BudgetError):
        ShortProposer(Failing(BudgetError("spent"))).propose(*SEEN, 15)


class Failing(FakeRoles):
    def __init__(self, failure: NpcError) -> None:
        self.failure = failure

    def propose(self, *asked: object) -> tuple[Candidate, ...]:
        raise self.failure


COUNT = Requirement("r1", "count", "exactly three apples", "apple", "3")
SEEN = (
    Checklist(PROMPT, (COUNT,)),
    Verdict((Check(COUNT, False, "four apples"),)),
    Caption(CAPTION, ("a blue cup",)),
)
