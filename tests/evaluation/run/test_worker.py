"""Tests of workers: when they draw, and when they judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Condition

import pytest

from npcorrect.diffusion.base import UNWATCHED, ImageModel, Watch
from npcorrect.diffusion.wrapper import Wrapper
from npcorrect.evaluation.benchmarks.base import Picture, Score
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.run.fake import FakeBench, FakeJudge, fake_tools
from npcorrect.evaluation.run.worker import Done, Job, Worker
from npcorrect.records import Drawing, Generation

PICTURES = 3
WAIT = 5.0
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


def jobs(count: int) -> list[Job]:
    return [Job("base", sample, 1) for sample in FakeBench().samples()[:count]]


def without_seconds(done: Done) -> object:
    steps = [replace(s, cost=replace(s.cost, seconds=0.0)) for s in done.record.steps]
    return replace(done.record, steps=tuple(steps)), done.pictures


def test_a_servers_judge_is_asked_while_the_next_picture_is_drawn() -> None:
    tools, judge = tools_that_wait()
    done = list(Worker(lambda: tools).stream(jobs(PICTURES)))
    assert judge.meanwhile[:2] == [True, True]
    assert [one.record.key for one in done] == [job.key for job in jobs(PICTURES)]
    alone = list(Worker(fake_tools).stream(jobs(PICTURES)))
    assert list(map(without_seconds, done)) == list(map(without_seconds, alone))


def test_what_a_judge_raises_ends_the_stream_after_what_was_done() -> None:
    class Failing(FakeJudge):
        remote = True
        asked = 0

        def scores(self, pictures: Sequence[Picture]) -> list[Score]:
            self.asked += 1
            if self.asked == 2:
                raise RuntimeError("gone")
            return super().scores(pictures)

    tools = replace(fake_tools(), judge=Failing())
    stream = Worker(lambda: tools).stream(jobs(PICTURES))
    assert next(stream).record.key == jobs(1)[0].key
    with pytest.raises(RuntimeError, match="gone"):
        list(stream)
