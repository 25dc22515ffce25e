"""Two models that take turns on one card: who leaves when, and how often it changes hands."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from npcorrect import session
from npcorrect.card import Card, CardModel, CardVLM
from npcorrect.diffusion.base import UNWATCHED, Watch
from npcorrect.diffusion.fake import FakeImageModel, looking
from npcorrect.errors import ModelError
from npcorrect.loop import correct
from npcorrect.proposing import RuleProposer
from npcorrect.ranking import ranker_maker
from npcorrect.records import (
    Attempt,
    Caption,
    Check,
    Checklist,
    Drawing,
    Generation,
    Request,
    Usage,
    Verdict,
)
from npcorrect.result import Result, cost_record, load_result, read_cost
from npcorrect.session import SessionSettings
from npcorrect.settings import LoadSettings, RoleSettings
from npcorrect.vlm import build
from npcorrect.vlm.base import Question, Reply
from npcorrect.vlm.cache import AnswerMemory, CachedVLM
from npcorrect.vlm.fake import FakeVLM
from npcorrect.vlm.grammar import GrammarChecklister
from npcorrect.vlm.local import LocalVLM
from npcorrect.vlm.model_roles import VLMCaptioner
from npcorrect.vlm.questions import about_claim
from npcorrect.vlm.roles import Roles
from npcorrect.vlm.settings import VLMSettings
from npcorrect.vlm.usage import Account
from npcorrect.vlm.verifier import VLMVerifier
from tests.fakes import ManyFaults
from tests.test_loop_brief import PROMPT, Asked, numbered
from tests.vlm import loopback

REQUEST = Request(PROMPT, candidates=3)


@dataclass
class Log:
    """What happened, in order, and who is on the card: never two at a time."""

    events: list[str] = field(default_factory=list)
    there: set[str] = field(default_factory=set)

    def enter(self, name: str) -> None:
        self.there.add(name)
        assert self.there == {name}
        self.events.append(f"{name} enters")

    def leave(self, name: str) -> None:
        self.there.discard(name)
        self.events.append(f"{name} leaves")

    def works(self, name: str, what: str) -> None:
        assert self.there == {name}
        self.events.append(what)

    @property
    def swaps(self) -> int:
        return sum(event.endswith("leaves") for event in self.events)

    @property
    def phases(self) -> list[str]:
        """What was done between two swaps, each phase once."""
        work = ["|" if one.endswith(("enters", "leaves")) else one for one in self.events]
        return [one for one, before in zip(work, ["", *work], strict=False) if one != before]


class Mover:
    def __init__(self, log: Log, name: str) -> None:
        self.log, self.name = log, name

    def enter(self) -> None:
        self.log.enter(self.name)

    def leave(self) -> None:
        self.log.leave(self.name)


class MovingModel(FakeImageModel):
    def __init__(self, log: Log, **more: Any) -> None:
        super().__init__(paint=numbered, **more)
        self._mover = Mover(log, "image")
        self.enter, self.leave = self._mover.enter, self._mover.leave

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        def step(step: int, total: int) -> None:
            self._mover.log.works("image", "draw")
            watch.on_step(step, total)

        return super().draw(drawings, replace(watch, on_step=step))

    def encode(self, texts: Sequence[str], *reading: Any) -> Any:
        self._mover.log.works("image", "rank")
        return super().encode(texts, *reading)


class WorkingVLM(FakeVLM):
    def __init__(self, log: Log, asked: Asked) -> None:
        super().__init__([asked.answer], repeat=True)
        self._log = log

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        self._log.works("vlm", "ask")
        return super().ask(questions)


def run(
    original: set[str], redrawn: set[str], request: Request = REQUEST, **more: Any
) -> tuple[list[Attempt], Log]:
    log, card = Log(), Card()
    vlm = CardVLM(WorkingVLM(log, Asked(original, redrawn)), Mover(log, "vlm"), card)
    vlm.connect()
    verifier, captioner = VLMVerifier(vlm), VLMCaptioner(vlm)
    roles = Roles(GrammarChecklister(), verifier, captioner, RuleProposer(), turns=True)
    model = CardModel(MovingModel(log, **more), card)
    ranker = ranker_maker("requirements")(model)
    return list(correct(request, model, roles, ranker)), log


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_all_redrawings_are_drawn_before_any_is_verified(batch: int) -> None:
    attempts, log = run({"r3"}, {"r3"}, replace(REQUEST, batch=batch))
    assert len(attempts) == 4
    phases = [one for one in log.phases if one != "|"]
    assert phases == ["draw", "ask", "rank", "draw", "ask"]
    assert log.swaps == 4
    assert sum(attempt.cost.usage.swaps for attempt in attempts) == log.swaps


def test_an_accepted_original_takes_two_swaps() -> None:
    attempts, log = run(set(), set())
    assert [attempt.cost.usage.swaps for attempt in attempts] == [log.swaps] == [2]


def test_what_was_drawn_in_a_phase_is_verified_to_its_end() -> None:
    attempts, _ = run({"r3"}, set())
    assert [attempt.verdict.accepted for attempt in attempts] == [False, True, True, True]


def test_the_image_model_has_the_card_again_after_a_look() -> None:
    request = replace(REQUEST, candidates=1, rule="extra")
    attempts, log = run({"r3"}, {"r3"}, request, defaults=looking(looks=2))
    assert attempts[1].generation.looks == 2
    assert sum(attempt.cost.usage.swaps for attempt in attempts) == log.swaps == 4 + 2 * 2


def test_an_answer_that_is_kept_moves_nobody() -> None:
    log, card = Log(), Card()
    vlm = CardVLM(WorkingVLM(log, Asked(set(), set())), Mover(log, "vlm"), card)
    kept = CachedVLM(vlm, AnswerMemory())
    question = about_claim("a cup", Image.new("RGB", (8, 8)))
    kept.ask([question])
    card.give(Mover(log, "image"))
    assert kept.ask([question])[0].cached
    assert log.events == ["vlm enters", "ask", "vlm leaves", "image enters"]


def test_a_swap_is_logged_and_charged(caplog: pytest.LogCaptureFixture) -> None:
    log, card, account = Log(), Card(), Account()
    one, other = Mover(log, "image"), Mover(log, "vlm")
    with caplog.at_level(logging.INFO, "npcorrect.card"):
        for resident in (one, one, other, one):
            account.charged(partial(card.give, resident))
    assert account.usage == Usage(swaps=2)
    assert "image leaves the card to vlm." in caplog.text


def test_the_record_has_the_swaps_and_older_ones_have_none(tmp_path: Path) -> None:
    attempts, log = run({"r3"}, {"r3"})
    checklist = GrammarChecklister().checklist(PROMPT)
    Result(REQUEST, checklist, tuple(attempts)).save(tmp_path)
    kept = load_result(tmp_path)
    assert kept.cost.usage.swaps == log.swaps
    assert cost_record(kept.cost)["swaps"] == log.swaps
    old = {name: value for name, value in cost_record(kept.cost).items() if name != "swaps"}
    assert read_cost(old).usage.swaps == 0


@dataclass
class Module:
    """Weights that remember where they were moved to."""

    device: str = "cuda"
    moves: list[str] = field(default_factory=list)

    def to(self, device: str) -> None:
        self.moves.append(device)


def test_a_model_in_this_process_leaves_for_main_memory_and_comes_back() -> None:
    tokenizer = SimpleNamespace(padding_side="", pad_token="", eos_token="")
    vlm = LocalVLM("local:x", module := Module(), SimpleNamespace(tokenizer=tokenizer))
    vlm.leave()
    vlm.enter()
    assert module.moves == ["cpu", "cuda"]


def test_by_settings_models_of_this_machine_take_turns_where_networks_are_offloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Local(FakeVLM):
        enter = leave = lambda self: None

    monkeypatch.setattr(LocalVLM, "load", lambda *_, **__: Local(name="local:x"))
    monkeypatch.setattr(session, "load_model", lambda _: FakeImageModel())
    monkeypatch.setattr(session, "check", lambda *_: None)
    for offload, model in (("none", FakeImageModel), ("model", CardModel)):
        load = LoadSettings(model="folder", offload=offload)
        roles = RoleSettings(vlm="local:x", cache=False)
        with session.open_session(SessionSettings(load=load, roles=roles)) as opened:
            assert type(opened.model) is model
            assert opened.roles.turns is (offload == "model")
            assert not opened.roles.overlap


def served(server: loopback.Server) -> VLMSettings:
    return VLMSettings(RoleSettings(vlm=server.name, cache=False))


def test_ollama_unloads_its_model_when_the_card_is_wanted() -> None:
    with loopback.loopback(ollama=True) as server:
        card, log = Card(), Log()
        with build.roles(served(server), card=card) as roles:
            assert roles.turns
            assert not roles.overlap
            assert server.loaded
            card.give(Mover(log, "image"))
            assert not server.loaded
            assert server.unloaded == [{"model": loopback.MODEL, "keep_alive": 0}]


def test_another_server_keeps_its_memory_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with (
        loopback.loopback() as server,
        build.roles(served(server), card=Card()) as roles,
    ):
        assert not roles.turns
        assert roles.overlap
    assert "keeps its memory" in caplog.text


def test_servers_elsewhere_and_sessions_without_offloading_take_no_turns() -> None:
    with loopback.loopback(ollama=True) as server, build.roles(served(server)) as roles:
        assert not roles.turns
        assert server.unloaded == []


@pytest.mark.parametrize("accepts", [True, False])
def test_a_drawing_that_fails_does_not_take_those_before_it(accepts: bool) -> None:
    def fail(drawing: Drawing) -> None:
        if drawing.negative_prompt and len(begun) == 2:
            raise ModelError("Memory ran out.")
        begun.append(drawing)

    begun: list[Drawing] = []
    roles = Roles(GrammarChecklister(), Last(accepts), Last(accepts), ManyFaults(), turns=True)
    model = FakeImageModel(on_draw=fail)
    correction = correct(REQUEST, model, roles, ranker_maker("requirements")(model))
    if accepts:
        assert [one.verdict.accepted for one in correction] == [False, True]
    else:
        with pytest.raises(ModelError, match="Memory"):
            list(correction)
    assert len(correction.result.attempts) == 2


def test_a_stop_between_verifications_asks_no_more() -> None:
    roles = Roles(GrammarChecklister(), Last(False), Last(False), ManyFaults(), turns=True)
    model = FakeImageModel()
    correction = correct(REQUEST, model, roles, ranker_maker("requirements")(model))
    for attempt in correction:
        if attempt.index == 1:
            correction.stop()
    assert [attempt.index for attempt in correction.result.attempts] == [0, 1]
    assert correction.ended == "stopped"


@dataclass
class Last:
    """Refuses the first picture, and the others unless it is to accept them."""

    accepts: bool
    seen: int = 0

    def verify(self, image: Image.Image, checklist: Checklist) -> Verdict:
        self.seen += 1
        good = self.accepts and self.seen > 1
        return Verdict(tuple(Check(one, good) for one in checklist.requirements))

    def caption(self, image: Image.Image) -> Caption:
        return Caption("a bird", ("a bird",))
