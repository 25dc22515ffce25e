"""The loop's stopping, choosing and failing, with fakes all around."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from npcorrect.diffusion.base import Glance, Look
from npcorrect.errors import PromptError, SettingsError, VLMError
from npcorrect.loop import Event, correct, finish, select
from npcorrect.ranking import SourceRanker
from npcorrect.records import (
    Attempt,
    Candidate,
    Caption,
    Check,
    Checklist,
    Generation,
    Request,
    Requirement,
    Verdict,
)
from npcorrect.vlm.roles import Roles

CLAIMS = tuple(
    Requirement(f"r{i}", "object", f"{noun} is visible", noun, noun)
    for i, noun in enumerate(("cat", "dog", "cup", "hat"))
)
CHECKLIST = Checklist("a cat, a dog, a cup and a hat", CLAIMS)
REQUEST = Request(CHECKLIST.prompt, seed=7)


def scored(passed: int) -> Verdict:
    """A verdict that ``passed`` of the four claims hold."""
    return Verdict(tuple(Check(claim, i < passed) for i, claim in enumerate(CLAIMS)))


UNSCORED = Verdict((), "no usable answer")


class Drawing(NamedTuple):
    request: Request
    negative: str | None

    @property
    def seed(self) -> int:
        return self.request.seed


class FakeModel:
    name = "fake"

    def __init__(self, looks: int = 0) -> None:
        self.looks = looks
        self.drawn: list[tuple[int, str | None]] = []
        self.batches: list[int] = []
        self.steered: list[Sequence[Glance]] = []
        self.origins: list[Generation | None] = []

    def resolve(
        self, request: Request, negative_prompt: str | None = None, attempt: int = 0
    ) -> Any:
        seed = request.seed + (attempt if request.reseed else 0)
        return Drawing(replace(request, seed=seed), negative_prompt)

    def draw(
        self,
        drawings: Sequence[Any],
        on_step: Callable[[int, int], None] | None = None,
        look: Look | None = None,
        origin: Generation | None = None,
    ) -> list[Generation]:
        if on_step:
            on_step(1, 1)
        self.origins.append(origin)
        self.batches.append(len(drawings))
        self.drawn += [(drawing.seed, drawing.negative) for drawing in drawings]
        negatives: Sequence[str | None] = [drawing.negative for drawing in drawings]
        for _ in range(self.looks if look else 0):
            assert look
            glances = look(0, [Image.new("RGB", (8, 8))] * len(drawings), negatives)
            negatives = [glance.negative for glance in glances]
            self.steered.append(glances)
        image = Image.new("RGB", (8, 8))
        return [
            Generation(image, d.request.prompt, d.negative, d.seed, 4, 1.8, 1.0, "paper", 1, 5, 0)
            for d in drawings
        ]


def generation() -> Generation:
    return FakeModel().draw([Drawing(REQUEST, None)])[0]


@dataclass
class FakeRoles:
    """All four roles. An error among the verdicts, or as a reply, is raised."""

    verdicts: Iterable[Verdict | Exception]
    negatives: Sequence[str] = ("bad one", "bad two", "bad three")
    fails: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._verdicts = iter(self.verdicts)

    def roles(self) -> Roles:
        return Roles(self, self, self, self)

    def _ask(self, role: str) -> None:
        self.asked.append(role)
        if role in self.fails:
            raise VLMError(f"{role} gave nothing", "raw")

    def checklist(self, prompt: str) -> Checklist:
        self._ask("checklist")
        return CHECKLIST

    def verify(self, image: Image.Image, checklist: Checklist) -> Verdict:
        self._ask("verify")
        verdict = next(self._verdicts)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    def caption(self, image: Image.Image) -> Caption:
        self._ask("caption")
        return Caption("a bird", ("a bird",))

    def propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, limit: int
    ) -> tuple[Candidate, ...]:
        self._ask("propose")
        return tuple(Candidate(text, "targeted") for text in self.negatives[:limit])


def run(
    *verdicts: Verdict | Exception, request: Request = REQUEST, fails: Iterable[str] = ()
) -> tuple[list[Attempt], FakeModel, FakeRoles]:
    model, roles = FakeModel(), FakeRoles(verdicts, fails=frozenset(fails))
    return list(correct(request, model, roles.roles(), SourceRanker())), model, roles


def test_an_accepted_original_is_the_end() -> None:
    attempts, model, roles = run(scored(4))
    assert [attempt.index for attempt in attempts] == [0]
    assert attempts[0].generation.negative_prompt is None
    assert model.drawn == [(7, None)]
    assert roles.asked == ["checklist", "verify"]


def test_redraws_keep_the_seed_and_stop_at_the_first_accepted() -> None:
    attempts, model, _ = run(scored(2), scored(1), scored(4))
    assert model.drawn == [(7, None), (7, "bad one"), (7, "bad two")]
    assert [a.ranked and a.ranked.candidate.negative_prompt for a in attempts] == [
        None,
        "bad one",
        "bad two",
    ]
    assert attempts[0].caption == Caption("a bird", ("a bird",))
    assert finish(REQUEST, CHECKLIST, attempts).best == 2
    assert finish(REQUEST, CHECKLIST, attempts).accepted


def test_a_batch_is_drawn_together_and_verified_to_its_end() -> None:
    request = replace(REQUEST, batch=2)
    attempts, model, roles = run(scored(2), scored(4), scored(1), request=request)
    assert model.batches == [1, 2]
    assert [attempt.index for attempt in attempts] == [0, 1, 2]
    assert finish(request, CHECKLIST, attempts).best == 1
    assert sum(attempt.cost.vlm_calls for attempt in attempts) == len(roles.asked)


def test_each_redraw_can_have_a_seed_of_its_own() -> None:
    _, model, _ = run(scored(2), scored(1), scored(4), request=replace(REQUEST, reseed=True))
    assert [seed for seed, _ in model.drawn] == [7, 8, 9]


def test_redrawings_begin_with_the_original() -> None:
    attempts, model, _ = run(scored(2), scored(1), scored(4))
    assert model.origins == [None, attempts[0].generation, attempts[0].generation]


def test_with_seeds_of_their_own_redrawings_go_round_the_candidates() -> None:
    request = replace(REQUEST, max_candidates=5)
    rejected = [scored(2)] * 6
    _, model, _ = run(*rejected, request=replace(request, reseed=True))
    bad = ["bad one", "bad two", "bad three"]
    assert [negative for _, negative in model.drawn[1:]] == [*bad, *bad[:2]]
    _, model, _ = run(*rejected, request=request)
    assert [negative for _, negative in model.drawn[1:]] == bad


def test_looks_renew_the_negative_while_the_emerging_picture_fails() -> None:
    looks = (scored(1), VLMError("busy"), UNSCORED, scored(4), scored(2))
    model, roles = FakeModel(looks=5), FakeRoles((scored(2), *looks, scored(4)))
    attempts = list(correct(REQUEST, model, roles.roles(), SourceRanker()))
    assert model.drawn == [(7, None), (7, "bad one")]
    wrong, untold, right = Glance("a bird", True), Glance("a bird"), Glance(None)
    assert model.steered == [[wrong], [untold], [untold], [right], [wrong]]
    assert sum(attempt.cost.vlm_calls for attempt in attempts) == len(roles.asked)


def test_a_look_that_gets_no_caption_keeps_the_negative() -> None:
    model = FakeModel(looks=1)
    roles = FakeRoles((scored(2), scored(1), scored(4)), fails=frozenset({"caption"}))
    attempts = list(correct(REQUEST, model, roles.roles(), SourceRanker()))
    assert model.steered == [[Glance("bad one", wrong=True)]]
    assert attempts[-1].cost.vlm_calls == 4


def test_the_calls_of_looks_are_counted_for_each_picture_of_a_batch() -> None:
    verdicts = (scored(2), scored(1), scored(4), scored(2), scored(2))
    model, roles = FakeModel(looks=1), FakeRoles(verdicts, negatives=("bad one", "bad two"))
    request = replace(REQUEST, batch=2)
    attempts = list(correct(request, model, roles.roles(), SourceRanker()))
    assert model.steered == [[Glance("a bird", wrong=True), Glance(None)]]
    assert [attempt.cost.vlm_calls for attempt in attempts[1:]] == [4, 2]
    assert sum(attempt.cost.vlm_calls for attempt in attempts) == len(roles.asked)


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="batch is 0"):
        run(request=replace(REQUEST, batch=0))


def test_the_original_competes_when_nothing_is_accepted() -> None:
    attempts, _, _ = run(scored(3), scored(1), scored(3), scored(2))
    result = finish(REQUEST, CHECKLIST, attempts)
    assert len(attempts) == 4
    assert result.best == 0
    assert not result.accepted


def test_costs_add_up_to_all_that_was_asked_and_drawn() -> None:
    attempts, model, roles = run(scored(2), scored(1), scored(4))
    cost = finish(REQUEST, CHECKLIST, attempts).cost
    assert cost.images == len(model.drawn) == 3
    assert cost.evaluations == 15
    assert cost.vlm_calls == len(roles.asked)
    assert cost.seconds > 0


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_no_more_candidates_than_asked_for(limit: int) -> None:
    request = Request(REQUEST.prompt, max_candidates=limit)
    attempts, _, roles = run(*[scored(0)] * 4, request=request)
    assert len(attempts) == 1 + limit
    assert ("propose" in roles.asked) == (limit > 0)


def test_an_unscored_original_is_kept_and_not_corrected() -> None:
    attempts, model, _ = run(VLMError("the server is away"))
    assert len(model.drawn) == 1
    assert attempts[0].verdict == Verdict((), "the server is away")
    assert attempts[0].verdict.accepted is None


def test_an_unscored_redraw_is_passed_over() -> None:
    attempts, _, _ = run(scored(0), VLMError("busy"), scored(4))
    assert [attempt.verdict.accepted for attempt in attempts] == [False, None, True]


def test_without_a_checklist_the_original_is_drawn_and_unscored() -> None:
    attempts, model, roles = run(fails=["checklist"])
    assert len(model.drawn) == 1
    assert attempts[0].verdict.error == "checklist gave nothing"
    assert roles.asked == ["checklist"]


def test_a_failed_caption_does_not_end_the_correction() -> None:
    attempts, _, _ = run(scored(0), scored(4), fails=["caption"])
    assert len(attempts) == 2
    assert attempts[0].caption is None


def test_rules_propose_where_the_proposer_fails() -> None:
    events: list[Event] = []
    roles = FakeRoles((scored(0), scored(4)), fails=frozenset({"propose"}))
    attempts = list(correct(REQUEST, FakeModel(), roles.roles(), SourceRanker(), events.append))
    assert attempts[1].generation.negative_prompt == "a bird"
    assert Event("propose", "rules propose instead: propose gave nothing") in events


def test_a_given_checklist_is_not_asked_for_again() -> None:
    roles = FakeRoles((scored(4),))
    list(correct(REQUEST, FakeModel(), roles.roles(), SourceRanker(), checklist=CHECKLIST))
    assert roles.asked == ["verify"]


def test_events_tell_each_stage_in_order() -> None:
    events: list[Event] = []
    roles = FakeRoles((scored(0), scored(4)))
    list(correct(REQUEST, FakeModel(), roles.roles(), SourceRanker(), events.append))
    assert [(event.stage, event.step) for event in events] == [
        ("checklist", 0),
        ("draw", 0),
        ("draw", 1),
        ("verify", 0),
        ("caption", 0),
        ("propose", 0),
        ("rank", 0),
        ("draw", 0),
        ("draw", 1),
        ("verify", 0),
    ]
    assert events[-2] == Event("draw", "bad one", 1, 1)


def test_closing_early_draws_nothing_more_and_keeps_what_was_yielded() -> None:
    model, roles = FakeModel(), FakeRoles((scored(2), scored(3), scored(4)))
    run = correct(REQUEST, model, roles.roles(), SourceRanker())
    kept = [next(run), next(run)]
    run.close()
    assert len(model.drawn) == 2
    assert finish(REQUEST, CHECKLIST, kept).best == 1


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Request("  "), PromptError),
        (Request("a cat", max_candidates=-1), SettingsError),
        (Request("a cat", max_candidates=51), SettingsError),
    ],
)
def test_senseless_requests_are_refused_at_once(request_: Request, error: type[Exception]) -> None:
    with pytest.raises(error):
        correct(request_, FakeModel(), FakeRoles(()).roles(), SourceRanker())


def test_nothing_to_select_from_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="no attempt"):
        select([])


@given(st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=6))
def test_the_chosen_one_is_the_earliest_of_the_best(passed: list[int | None]) -> None:
    attempts = [
        Attempt(i, generation(), UNSCORED if n is None else scored(n)) for i, n in enumerate(passed)
    ]
    merits = [-1 if n is None else n for n in passed]
    assert select(attempts) == merits.index(max(merits))


def test_a_partly_scored_picture_never_wins_over_a_scored_one() -> None:
    partly = Verdict((Check(CLAIMS[0], True), Check(CLAIMS[1], None)))
    attempts = [Attempt(0, generation(), partly), Attempt(1, generation(), scored(1))]
    assert select(attempts) == 1
