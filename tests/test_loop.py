"""The loop's stopping, choosing and failing, with fakes all around."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from npcorrect.diffusion.base import Glance
from npcorrect.diffusion.fake import FAKE_DEFAULTS, FakeImageModel, looking
from npcorrect.errors import BudgetError, ModelError, PromptError, SettingsError, VLMError
from npcorrect.loop import Correction, Event, correct
from npcorrect.plan import Defaults, Plan
from npcorrect.ranking import SourceRanker
from npcorrect.records import (
    Attempt,
    Candidate,
    Caption,
    Check,
    Checklist,
    Cost,
    Drawing,
    Generation,
    Request,
    Requirement,
    Usage,
    Verdict,
)
from npcorrect.result import select
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


def generation() -> Generation:
    model = FakeImageModel()
    return model.draw([model.plan(REQUEST).drawing(0, None)])[0]


@dataclass
class FakeRoles:
    """All four roles. An error among the verdicts, or as a reply, is raised."""

    verdicts: Iterable[Verdict | Exception]
    negatives: tuple[str, ...] = ("bad one", "bad two", "bad three")
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
) -> tuple[list[Attempt], FakeImageModel, FakeRoles]:
    model, roles = FakeImageModel(), FakeRoles(verdicts, fails=frozenset(fails))
    return list(correct(request, model, roles.roles(), SourceRanker())), model, roles


def begin(
    *verdicts: Verdict | Exception, model: FakeImageModel | None = None, request: Request = REQUEST
) -> Correction:
    roles = FakeRoles(verdicts).roles()
    return correct(request, model or FakeImageModel(), roles, SourceRanker())


DENYING = Request("a cat, a dog, a cup and a hat without windows", seed=7)


def denied(
    request: Request, *verdicts: Verdict, model: FakeImageModel | None = None
) -> tuple[FakeImageModel, Sequence[Attempt], list[Event]]:
    """A correction whose prompt denies windows."""

    class Reading(FakeRoles):
        def checklist(self, prompt: str) -> Checklist:
            return replace(CHECKLIST, prompt=prompt)

    model, events = model or FakeImageModel(), list[Event]()
    roles = Reading(verdicts).roles()
    return model, list(correct(request, model, roles, SourceRanker(), events.append)), events


def test_what_the_prompt_denies_is_a_negative_from_the_first_picture_on() -> None:
    model, attempts, _ = denied(DENYING, scored(2), scored(4))
    assert model.drawn == [(7, "windows"), (7, "windows, bad one")]
    assert attempts[0].generation.negatives == ("windows",)
    assert attempts[1].ranked is not None
    assert attempts[1].ranked.candidate.negative_prompt == "bad one"
    assert attempts[0].generation.evaluations > 4, "its evaluations are counted"


def test_it_stays_when_looks_renew_the_negative() -> None:
    model = FakeImageModel(looking(looks=2))
    _, attempts, _ = denied(DENYING, *[scored(2)] * 2, scored(4), scored(4), model=model)
    assert [glance.negative for (glance,) in model.glances] == ["windows, a bird", "windows"]
    assert attempts[1].verdict.accepted


def test_a_picture_alone_is_the_untouched_models() -> None:
    model, _, _ = denied(replace(DENYING, candidates=0), scored(2))
    assert model.drawn == [(7, None)]


def test_a_denial_that_the_model_cannot_read_is_said() -> None:
    request = replace(DENYING, rule="paper", negative_prompt="x" * 55)
    model, _, events = denied(request, scored(4), model=FakeImageModel(longest=60))
    assert model.drawn == [(7, None)]
    assert any("passed over: The text has 64 characters" in event.detail for event in events)


def test_an_accepted_original_is_the_end() -> None:
    attempts, model, roles = run(scored(4))
    assert [attempt.index for attempt in attempts] == [0]
    assert attempts[0].generation.drawing.negative_prompt is None
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
    assert select(attempts) == 2
    assert attempts[2].verdict.accepted


def test_a_batch_is_drawn_together_and_verified_to_its_end() -> None:
    request = replace(REQUEST, batch=2)
    attempts, model, roles = run(scored(2), scored(4), scored(1), request=request)
    assert [len(batch) for batch in model.drawings] == [1, 2]
    assert [attempt.index for attempt in attempts] == [0, 1, 2]
    assert select(attempts) == 1
    assert sum(attempt.cost.usage.readings for attempt in attempts) == len(roles.asked)


def test_each_redraw_can_have_a_seed_of_its_own() -> None:
    _, model, _ = run(scored(2), scored(1), scored(4), request=replace(REQUEST, fresh=True))
    assert [seed for seed, _ in model.drawn] == [7, 8, 9]


def test_redrawings_begin_with_the_original() -> None:
    model = FakeImageModel(replace(looking(looks=0), strength=0.5))
    (original, *_) = begin(scored(2), scored(1), scored(4), model=model)
    origins = [drawing.origin for batch in model.drawings for drawing in batch]
    assert origins == [None, original.generation.origin, original.generation.origin]


def test_with_seeds_of_their_own_redrawings_try_the_best_negative_again() -> None:
    request = replace(REQUEST, candidates=5)
    rejected = [scored(2)] * 6
    bad = ["bad one", "bad two", "bad three"]
    _, model, _ = run(*rejected, request=replace(request, fresh=True))
    assert [negative for _, negative in model.drawn[1:]] == [bad[0]] * 5
    _, model, _ = run(*rejected, request=request)
    assert [negative for _, negative in model.drawn[1:]] == bad


def test_the_negatives_are_tried_in_turn_as_long_as_the_seed_is_kept() -> None:
    model = FakeImageModel(replace(FAKE_DEFAULTS, fresh_from=3))
    list(begin(*[scored(2)] * 5, model=model, request=replace(REQUEST, candidates=4)))
    assert model.drawn[1:] == [(7, "bad one"), (7, "bad two"), (10, "bad one"), (11, "bad one")]


NEW_SEEDS = replace(FAKE_DEFAULTS, fresh_from=2, seeds_suffice=frozenset({"object", "count"}))


@pytest.mark.parametrize("batch", [1, 2, 3, 9])
def test_where_new_seeds_do_better_they_have_no_negative_once_one_was_tried(batch: int) -> None:
    model, request = FakeImageModel(NEW_SEEDS), replace(REQUEST, candidates=4, batch=batch)
    attempts = list(begin(*[scored(2)] * 5, model=model, request=request))
    assert model.drawn[1:] == [(7, "bad one"), (9, None), (10, None), (11, None)]
    assert [attempt.ranked is None for attempt in attempts] == [True, False, True, True, True]
    sizes = {1: [1, 1, 1, 1, 1], 2: [1, 1, 2, 1]}.get(batch, [1, 1, 3])
    assert list(map(len, model.drawings)) == sizes


@pytest.mark.parametrize(
    ("defaults", "settings"),
    [
        (replace(NEW_SEEDS, seeds_suffice=frozenset({"count"})), {}),
        (NEW_SEEDS, {"rule": "nag", "fresh": True}),
    ],
)
def test_where_other_claims_failed_or_by_another_rule_the_negative_stays(
    defaults: Defaults, settings: dict[str, Any]
) -> None:
    model, request = FakeImageModel(defaults), replace(REQUEST, candidates=3, **settings)
    list(begin(*[scored(2)] * 4, model=model, request=request))
    assert {negative for _, negative in model.drawn[1:]} == {"bad one"}


def test_with_seeds_of_their_own_throughout_one_negative_is_tried_first() -> None:
    model, request = FakeImageModel(NEW_SEEDS), replace(REQUEST, candidates=3, fresh=True)
    list(begin(*[scored(2)] * 4, model=model, request=request))
    assert model.drawn[1:] == [(8, "bad one"), (9, None), (10, None)]
    kept = FakeImageModel(NEW_SEEDS)
    list(begin(*[scored(2)] * 4, model=kept, request=replace(request, fresh=False)))
    assert kept.drawn[1:] == [(7, "bad one"), (7, "bad two"), (7, "bad three")]


def test_looks_renew_the_negative_while_the_emerging_picture_fails() -> None:
    looks = (scored(1), VLMError("busy"), UNSCORED, scored(4), scored(2))
    model, roles = FakeImageModel(looking(looks=5)), FakeRoles((scored(2), *looks, scored(4)))
    attempts = list(correct(REQUEST, model, roles.roles(), SourceRanker()))
    assert model.drawn == [(7, None), (7, "bad one")]
    wrong, untold, right = Glance("a bird", True), Glance("a bird"), Glance(None)
    assert model.glances == [[wrong], [untold], [untold], [right], [wrong]]
    assert sum(attempt.cost.usage.readings for attempt in attempts) == len(roles.asked)


def test_a_look_that_gets_no_caption_keeps_the_negative() -> None:
    model = FakeImageModel(looking())
    roles = FakeRoles((scored(2), scored(1), scored(4)), fails=frozenset({"caption"}))
    attempts = list(correct(REQUEST, model, roles.roles(), SourceRanker()))
    assert model.glances == [[Glance("bad one", wrong=True)]]
    assert attempts[-1].cost.usage.readings == 4


def test_the_calls_of_looks_are_counted_for_each_picture_of_a_batch() -> None:
    verdicts = (scored(2), scored(1), scored(4), scored(2), scored(2))
    model, roles = FakeImageModel(looking()), FakeRoles(verdicts, negatives=("bad one", "bad two"))
    request = replace(REQUEST, batch=2)
    attempts = list(correct(request, model, roles.roles(), SourceRanker()))
    assert model.glances == [[Glance("a bird", wrong=True), Glance(None)]]
    assert [attempt.cost.usage.readings for attempt in attempts[1:]] == [4, 2]
    assert sum(attempt.cost.usage.readings for attempt in attempts) == len(roles.asked)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"request": "a cat"}, "request is of type 'str'; give a Request"),
        ({"checklist": ["a cat"]}, "checklist is of type 'list'; give a Checklist"),
        ({"begun": ()}, "correction that was begun is of type 'tuple'; give its Result"),
        (
            {"original": b"png"},
            "original is of type 'bytes'; give a picture of PIL, or a gen",
        ),
        ({"on_event": 5}, "listener is of type 'int'; give a function"),
    ],
)
def test_arguments_of_the_wrong_type_are_refused_at_once(given_: dict[str, Any], said: str) -> None:
    roles = FakeRoles(()).roles()
    with pytest.raises(SettingsError, match=said):
        correct(
            **{"request": REQUEST, "ranker": SourceRanker(), **given_},
            model=FakeImageModel(),
            roles=roles,
        )


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="'batch' is 0"):
        run(request=replace(REQUEST, batch=0))


def test_the_original_competes_when_nothing_is_accepted() -> None:
    attempts, _, _ = run(scored(3), scored(1), scored(3), scored(2))
    assert len(attempts) == 4
    assert select(attempts) == 0


def test_costs_add_up_to_all_that_was_asked_and_drawn() -> None:
    attempts, model, roles = run(scored(2), scored(1), scored(4))
    cost = sum((attempt.cost for attempt in attempts), Cost())
    assert cost.images == len(model.drawn) == 3
    assert cost.evaluations == 4 + 5 + 5
    assert cost.usage == Usage(readings=len(roles.asked))
    assert cost.seconds > 0


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_no_more_candidates_than_asked_for(limit: int) -> None:
    request = Request(REQUEST.prompt, candidates=limit)
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
    attempts = list(
        correct(REQUEST, FakeImageModel(), roles.roles(), SourceRanker(), events.append)
    )
    assert attempts[1].generation.drawing.negative_prompt == "a bird"
    assert any(e.detail == "rules propose instead: propose gave nothing" for e in events)


def test_a_given_checklist_is_not_asked_for_again() -> None:
    roles = FakeRoles((scored(4),))
    list(correct(REQUEST, FakeImageModel(), roles.roles(), SourceRanker(), checklist=CHECKLIST))
    assert roles.asked == ["verify"]


def test_events_tell_each_stage_in_order() -> None:
    events: list[Event] = []
    roles = FakeRoles((scored(0), scored(4)))
    list(correct(REQUEST, FakeImageModel(), roles.roles(), SourceRanker(), events.append))
    stages = [(event.stage, event.attempt, event.step) for event in events]
    drawn = [("draw", step) for step in range(5)]
    assert stages == [
        ("checklist", 0, 0),
        *((stage, 0, step) for stage, step in drawn),
        ("verify", 0, 0),
        ("caption", 0, 0),
        ("propose", 1, 0),
        ("rank", 1, 0),
        *((stage, 1, step) for stage, step in drawn),
        ("verify", 1, 0),
    ]
    last = Event(stage="draw", detail="bad one", attempt=1, attempts=5, step=4, total=4)
    assert events[-2] == last


def test_a_look_tells_its_picture() -> None:
    events: list[Event] = []
    roles = FakeRoles((scored(0), scored(0), scored(4))).roles()
    list(correct(REQUEST, FakeImageModel(looking()), roles, SourceRanker(), events.append))
    (look,) = [event for event in events if event.stage == "look"]
    assert look.preview is not None
    assert look.preview.size == (16, 16)
    assert (look.attempt, look.attempts) == (1, 5)


def test_closing_early_draws_nothing_more_and_keeps_what_was_yielded() -> None:
    model, roles = FakeImageModel(), FakeRoles((scored(2), scored(3), scored(4)))
    run = correct(REQUEST, model, roles.roles(), SourceRanker())
    kept = [next(run), next(run)]
    run.close()
    assert len(model.drawn) == 2
    assert select(kept) == 1
    assert run.result.attempts == tuple(kept)
    assert run.ended == "stopped"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Request("  "), PromptError),
        (Request("a cat", candidates=-1), SettingsError),
        (Request("a cat", candidates=51), SettingsError),
        (Request("a cat", rule="magic"), SettingsError),
        (Request("a cat", steps=-1), SettingsError),
        (Request("a cat", scale=1.0), SettingsError),
        (Request("a cat", seed="7"), SettingsError),  # type: ignore[arg-type]
    ],
)
def test_senseless_requests_are_refused_at_once(request_: Request, error: type[Exception]) -> None:
    with pytest.raises(error):
        correct(request_, FakeImageModel(), FakeRoles(()).roles(), SourceRanker())


def test_nothing_to_select_from_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="no attempt"):
        select([])


@given(st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=6))
def test_the_chosen_one_is_the_earliest_of_the_best(passed: list[int | None]) -> None:
    drawn = generation()
    attempts = [
        Attempt(index=i, generation=drawn, verdict=UNSCORED if n is None else scored(n))
        for i, n in enumerate(passed)
    ]
    merits = [-1 if n is None else n for n in passed]
    assert select(attempts) == merits.index(max(merits))


def test_a_partly_scored_picture_never_wins_over_a_scored_one() -> None:
    partly = Verdict((Check(CLAIMS[0], True), Check(CLAIMS[1], None)))
    verdicts = partly, scored(1)
    attempts = [
        Attempt(index=i, generation=generation(), verdict=v) for i, v in enumerate(verdicts)
    ]
    assert select(attempts) == 1


@pytest.mark.parametrize(
    ("verdicts", "ended"),
    [
        ((scored(4),), "accepted"),
        ((scored(1), scored(4)), "accepted"),
        ((scored(1), scored(1), scored(1), scored(1)), "exhausted"),
        ((UNSCORED,), "unscored"),
        ((VLMError("away"),), "unscored"),
        ((scored(1), BudgetError("used up")), "budget"),
        ((BudgetError("used up"),), "budget"),
    ],
)
def test_it_says_why_it_ended(verdicts: tuple[Verdict | Exception, ...], ended: str) -> None:
    correction = begin(*verdicts)
    assert correction.ended is None
    attempts = list(correction)
    assert correction.ended == correction.result.ended == ended
    assert correction.result.attempts == tuple(attempts)
    assert correction.spent == (ended == "budget")


def test_the_result_is_there_at_any_time() -> None:
    correction = begin(scored(2), scored(3), scored(4))
    assert correction.result.attempts == ()
    assert not correction.result.accepted
    assert correction.checklist == Checklist(REQUEST.prompt, ())
    for attempt in correction:
        assert attempt in correction.result.attempts
        if attempt.index == 1:
            break
    assert correction.result.best_index == 1
    assert correction.result.cost.images == 2
    assert correction.checklist == CHECKLIST


def test_it_can_be_stopped_from_any_thread_while_it_draws() -> None:
    model = FakeImageModel()
    correction = begin(scored(2), scored(3), scored(4), model=model)
    next(correction)
    threading.Thread(target=correction.stop).start()
    while not correction._stopped.is_set():
        pass
    assert list(correction) == []
    assert correction.ended == "stopped"
    assert [attempt.index for attempt in correction.result.attempts] == [0]


def test_closing_what_is_under_way_stops_it() -> None:
    def close_at_the_second_step(event: Event) -> None:
        if event.attempt == 1 and event.step == 2:
            correction.close()

    roles = FakeRoles((scored(2), scored(3))).roles()
    model = FakeImageModel()
    correction = correct(REQUEST, model, roles, SourceRanker(), close_at_the_second_step)
    assert [attempt.index for attempt in correction] == [0]
    assert correction.ended == "stopped"


def test_stopping_in_the_middle_of_a_drawing_drops_it() -> None:
    def stop_at_the_second_step(event: Event) -> None:
        if event.attempt == 1 and event.step == 2:
            correction.stop()

    model, roles = FakeImageModel(), FakeRoles((scored(2), scored(3)))
    correction = correct(REQUEST, model, roles.roles(), SourceRanker(), stop_at_the_second_step)
    assert [attempt.index for attempt in correction] == [0]
    assert model.begun == [None, "bad one"]
    assert model.drawn == [(7, None)]
    assert correction.ended == "stopped"


def test_stopped_or_closed_before_it_begins_nobody_is_asked(tmp_path: Path) -> None:
    picture = Image.new("RGB", (16, 16))
    for end in (Correction.stop, Correction.close):
        roles = FakeRoles((scored(2),))
        correction = correct(
            REQUEST, FakeImageModel(), roles.roles(), SourceRanker(), original=picture
        )
        end(correction)
        assert list(correction) == []
        assert correction.ended == "stopped"
        assert roles.asked == []
        with pytest.raises(SettingsError, match="no attempt"):
            correction.result.save(tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_drawing_happens_on_the_thread_that_iterates() -> None:
    threads: list[threading.Thread] = []
    model = FakeImageModel(on_draw=lambda drawing: threads.append(threading.current_thread()))
    roles = replace(FakeRoles([scored(1)] * 4).roles(), overlap=True)
    list(correct(REQUEST, model, roles, SourceRanker()))
    assert threads == [threading.current_thread()] * 4


def test_a_picture_that_exists_is_corrected() -> None:
    picture = Image.new("RGB", (32, 24), "red")
    model = FakeImageModel(replace(looking(looks=0), strength=0.5))
    roles = FakeRoles((scored(2), scored(4))).roles()
    correction = correct(REQUEST, model, roles, SourceRanker(), original=picture)
    original, redrawn = correction
    assert original.generation.image is picture
    assert (original.cost.images, original.cost.evaluations) == (0, 0)
    ((drawing,),) = model.drawings
    assert (drawing.width, drawing.height) == (32, 24)
    assert drawing.origin is not None
    assert redrawn.generation.start_step == drawing.restart_step > 0


def test_an_attempt_of_the_same_model_is_corrected_further() -> None:
    model = FakeImageModel(replace(looking(looks=0), strength=0.5))
    first = next(begin(scored(4), model=model)).generation
    roles = FakeRoles((scored(2), scored(4))).roles()
    original, _ = correct(REQUEST, model, roles, SourceRanker(), original=first)
    assert original.generation is first
    assert model.drawings[-1][0].origin is first.origin


def test_where_a_model_cannot_begin_with_a_picture_it_says_so() -> None:
    class Blind(FakeImageModel):
        def origin(self, image: Image.Image, drawing: Drawing) -> None:
            return None

    events: list[Event] = []
    model = Blind(replace(looking(looks=0), strength=0.5))
    roles = FakeRoles((scored(2), scored(4))).roles()
    picture = Image.new("RGB", (16, 16))
    list(correct(REQUEST, model, roles, SourceRanker(), events.append, original=picture))
    assert model.drawings[0][0].origin is None
    assert any("redrawings begin with noise" in event.detail for event in events)


def test_another_models_attempt_is_an_error() -> None:
    defaults = replace(looking(looks=0), strength=0.5)
    other = FakeImageModel(defaults, name="other")
    drawn = next(begin(scored(4), model=other)).generation
    for verdict in (scored(2), scored(4)):
        asked: list[Event] = []
        roles = FakeRoles((verdict, scored(4))).roles()
        model = FakeImageModel(defaults)
        correction = correct(REQUEST, model, roles, SourceRanker(), asked.append, original=drawn)
        with pytest.raises(ModelError, match="'other'"):
            list(correction)
        assert correction.ended is None
        assert not asked, "it was refused before anyone was asked"


def test_a_plan_is_made_once() -> None:
    class Counting(FakeImageModel):
        plans = 0

        def plan(self, request: Request) -> Plan:
            Counting.plans += 1
            return super().plan(request)

    assert len(list(begin(*[scored(1)] * 6, model=Counting()))) == 4
    assert Counting.plans == 1


@pytest.mark.parametrize(("rule", "looks", "rewinds"), [("turns", 0, 0), ("extra", 1, 1)])
def test_pictures_that_are_drawn_alone_tell_their_own_attempt(
    rule: str, looks: int, rewinds: int
) -> None:
    events: list[Event] = []
    request = replace(
        REQUEST, rule=rule, looks=looks, rewinds=rewinds, candidates=3, batch=2, ranker="source"
    )
    roles = FakeRoles([scored(2)] * 20).roles()
    list(correct(request, FakeImageModel(), roles, SourceRanker(), events.append))
    drawn = [event for event in events if event.stage == "draw"]
    begun = [event.attempt for event in drawn if not event.step]
    assert begun == [0, 1, 2, 3]
    last = [event.attempt for event in drawn if event.step == event.total > 0]
    assert last == begun


def test_where_the_budget_ends_before_the_first_picture_it_is_drawn_and_unscored() -> None:
    class Broke(FakeRoles):
        def checklist(self, prompt: str) -> Checklist:
            raise BudgetError("used up")

    correction = correct(REQUEST, FakeImageModel(), Broke(()).roles(), SourceRanker())
    (attempt,) = correction
    assert attempt.verdict.error == "used up"
    assert correction.ended == "budget"


def test_a_budget_that_ends_in_a_look_is_no_stop() -> None:
    request = replace(REQUEST, rule="extra", looks=1)
    correction = begin(scored(2), BudgetError("used up"), request=request)
    assert len(list(correction)) == 1
    assert correction.ended == "budget"
