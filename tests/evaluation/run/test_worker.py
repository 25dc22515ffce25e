"""Tests of workers: when they draw, and when they judge."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from io import BytesIO

import pytest
from PIL import Image

from npcorrect.evaluation.benchmarks.base import Picture, Score
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.run.fake import FakeBench, FakeJudge, fake_tools
from npcorrect.evaluation.run.kept import kept
from npcorrect.evaluation.run.worker import Done, Job, Worker
from npcorrect.vlm.base import Question, Reply, Usage
from npcorrect.vlm.cache import AnswerMemory, CachedVLM
from npcorrect.vlm.fake import FakeVLM
from npcorrect.vlm.verifier import VLMVerifier
from tests.evaluation.run.waiting import PICTURES, CountingModel, tools_that_wait


def jobs(count: int) -> list[Job]:
    return [Job("base", sample, 1) for sample in FakeBench().samples()[:count]]


def without_seconds(done: Done) -> object:
    steps = [replace(s, cost=replace(s.cost, seconds=0.0)) for s in done.record.steps]
    return replace(done.record, steps=tuple(steps)), done.pictures


def test_what_is_kept_is_known_of_every_picture_that_was_chosen_after_the_first() -> None:
    jobs = [Job("npc", sample, 4) for sample in FakeBench().samples()[:6]]
    later = 0
    for done in Worker(fake_tools).stream(jobs):
        steps = done.record.steps
        first, *images = (Image.open(BytesIO(done.pictures[step.image])) for step in steps)
        assert steps[0].kept is None
        chosen = {step.chosen for step in steps}
        for place, (step, image) in enumerate(zip(steps[1:], images, strict=True), 1):
            assert step.kept == (kept(first, image) if place in chosen else None)
            later += place in chosen
    assert later


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


def answer(question: Question) -> Reply:
    """Nothing holds, and dust is seen instead; each answer takes half a second."""
    names = question.schema["properties"] if question.schema else ()
    text = json.dumps(dict.fromkeys(names, "dust")) if names else "no"
    return Reply(text, usage=Usage(1, 30, 2, 0.5))


def asking_tools(overlap: bool = False) -> Tools:
    """Tools whose verifier asks a model, in threads of its own with ``overlap``."""
    some = fake_tools()
    verifier = VLMVerifier(CachedVLM(FakeVLM([answer], repeat=True), AnswerMemory()))
    roles = replace(some.session.roles, verifier=verifier, overlap=overlap)
    return replace(some, session=replace(some.session, roles=roles))


@pytest.mark.parametrize("methods", [("base", "best-of-n"), ("best-of-n", "base")])
def test_a_method_pays_for_what_another_one_asked_before(methods: tuple[str, ...]) -> None:
    """The seconds that it saves count too, as if the method were alone in the run."""
    sample = FakeBench().samples()[0]
    together, alone = Worker(asking_tools), {}
    costs = {m: together.perform(Job(m, sample, 2)).record.steps[-1].cost for m in methods}
    for method in methods:
        done = Worker(asking_tools).perform(Job(method, sample, 2))
        alone[method] = done.record.steps[-1].cost
    assert {m: cost.usage for m, cost in costs.items()} == {m: c.usage for m, c in alone.items()}
    assert costs["base"].usage.calls == 4, "three claims, and what is seen instead"
    assert costs[methods[1]].seconds > 4 * 0.5, "of which it has waited for none"


@pytest.mark.parametrize("overlap", [False, True])
def test_a_job_costs_the_same_where_all_answers_are_known(overlap: bool) -> None:
    worker = Worker(partial(asking_tools, overlap))
    job = Job("npc", FakeBench().samples()[0], 4)
    first, again = (worker.perform(job).record for _ in range(2))
    assert [s.cost.usage for s in again.steps] == [s.cost.usage for s in first.steps]
    assert len({step.cost.usage.calls for step in first.steps}) == len(first.steps) > 2


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
