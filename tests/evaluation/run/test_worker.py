"""Tests of workers: when they draw, and when they judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from npcorrect.evaluation.benchmarks.base import Picture, Score
from npcorrect.evaluation.run.fake import FakeBench, FakeJudge, fake_tools
from npcorrect.evaluation.run.worker import Done, Job, Worker
from tests.evaluation.run.waiting import PICTURES, CountingModel, tools_that_wait


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


def test_a_servers_judge_is_asked_while_another_thread_draws() -> None:
    tools, judge = tools_that_wait()
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(Worker(lambda: tools).perform, jobs(PICTURES)))
    assert judge.meanwhile[:2] == [True, True]
    alone = list(Worker(fake_tools).stream(jobs(PICTURES)))
    assert list(map(without_seconds, done)) == list(map(without_seconds, alone))


def test_a_judge_in_this_process_is_asked_while_nothing_is_drawn() -> None:
    class Local(FakeJudge):
        def __init__(self, model: CountingModel) -> None:
            self.model, self.drawn_meanwhile = model, False

        def scores(self, pictures: Sequence[Picture]) -> list[Score]:
            with self.model.changed:
                self.drawn_meanwhile |= self.model.changed.wait_for(self._drawn_since(), 0.02)
            return super().scores(pictures)

        def _drawn_since(self) -> Callable[[], bool]:
            before = self.model.count
            return lambda: self.model.count > before

    some = fake_tools()
    model = CountingModel(some.session.model)
    judge = Local(model)
    tools = replace(some, session=replace(some.session, model=model), judge=judge)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(Worker(lambda: tools).perform, jobs(PICTURES)))
    assert model.count == PICTURES
    assert not judge.drawn_meanwhile


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
