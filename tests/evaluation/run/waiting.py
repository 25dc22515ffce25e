"""A server's judge that answers once the next picture is being drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Condition

from npcorrect.diffusion.base import UNWATCHED, ImageModel, Watch
from npcorrect.diffusion.wrapper import Wrapper
from npcorrect.evaluation.benchmarks.base import Picture, Score
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.run.fake import FakeJudge, fake_tools
from npcorrect.records import Drawing, Generation

PICTURES = 3
MEANWHILE = "the next one was begun meanwhile"
WAIT = 60.0
"""Seconds after which a picture that the judge waits for was not drawn meanwhile."""


class CountingModel(Wrapper):
    """Counts its drawings, and tells who waits for them."""

    def __init__(self, model: ImageModel) -> None:
        super().__init__(model)
        self.count, self.changed = 0, Condition()

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        with self.changed:
            self.count += 1
            self.changed.notify_all()
        return super().draw(drawings, watch)


class ServersJudge(FakeJudge):
    """Answers about a picture once the one after it is being drawn, or gives up waiting."""

    remote = True

    def __init__(self, model: CountingModel) -> None:
        self.model = model
        self.meanwhile: list[bool] = []

    def scores(self, pictures: Sequence[Picture]) -> list[Score]:
        wanted = min(len(self.meanwhile) + 2, PICTURES)
        with self.model.changed:
            there = self.model.changed.wait_for(lambda: self.model.count >= wanted, WAIT)
        self.meanwhile.append(there)
        return super().scores(pictures)


def tools_that_wait() -> tuple[Tools, ServersJudge]:
    some = fake_tools()
    model = CountingModel(some.session.model)
    judge = ServersJudge(model)
    return replace(some, session=replace(some.session, model=model), judge=judge), judge


class TellingJudge(ServersJudge):
    """Gives as its reason whether the picture after it was begun, for those in other processes."""

    def scores(self, pictures: Sequence[Picture]) -> list[Score]:
        super().scores(pictures)
        return [Score(1.0, MEANWHILE if self.meanwhile[-1] else "") for _ in pictures]


def telling_tools() -> Tools:
    some, judge = tools_that_wait()
    return replace(some, judge=TellingJudge(judge.model))
