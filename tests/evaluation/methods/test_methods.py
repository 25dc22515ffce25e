"""Methods: what each draws, what it pays for, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect.diffusion.fake import FakeImageModel
from npcorrect.errors import BudgetError, NpcError, SettingsError
from npcorrect.evaluation.benchmarks import mini_bench
from npcorrect.evaluation.benchmarks.base import Sample
from npcorrect.evaluation.benchmarks.mini_bench import MiniBench
from npcorrect.evaluation.methods import METHODS, find, static
from npcorrect.evaluation.methods.base import Task, Tools
from npcorrect.evaluation.run import tools
from npcorrect.evaluation.run.fake import FakeBench, FakeRoles, fake_model, fake_tools
from npcorrect.evaluation.run.manifest import RunSettings
from npcorrect.evaluation.run.records import Record
from npcorrect.evaluation.run.worker import Job, Worker
from npcorrect.mini.data import TAGS
from npcorrect.records import Attempt, Check, Checklist, Drawing, Requirement, Usage, Verdict
from npcorrect.session import Session, SessionSettings
from npcorrect.settings import DrawSettings, LoadSettings, RoleSettings
from npcorrect.vlm.base import Reply
from npcorrect.vlm.fake import FakeVLM
from npcorrect.vlm.settings import VLMTable
from tests.vlm.loopback import loopback

SAMPLE = Sample(4, "colour", "a prompt", 3000)


@dataclass
class Stubborn(FakeRoles):
    """Accepts nothing, and remembers the claims that it was asked for."""

    checklists: int = 0

    def checklist(self, prompt: str) -> Checklist:
        self.checklists += 1
        return super().checklist(prompt)

    def verify(self, image: Image.Image, checklist: Checklist) -> Verdict:
        return Verdict(tuple(Check(claim, False) for claim in checklist.requirements))


def stubborn(model: FakeImageModel | None = None, **changes: Any) -> Tools:
    session = Session(model or fake_model(), Stubborn().roles())
    return replace(fake_tools(), session=session, **changes)


def task(some: Tools, sample: Sample = SAMPLE, images: int = 3) -> Task:
    return Task(
        sample,
        images,
        some.session,
        some.draw,
        some.writer,
        partial(some.benchmark.checklist, sample),
    )


def first(name: str, some: Tools, number: int) -> list[Attempt]:
    return list(islice(find(name).attempts(task(some)), number))


def drawings(model: FakeImageModel) -> list[Drawing]:
    return [drawing for batch in model.drawings for drawing in batch]


def acting(attempt: Attempt) -> tuple[int, str | None]:
    drawing = attempt.generation.drawing
    return drawing.seed, drawing.negative_prompt


def test_every_method_is_described() -> None:
    assert set(METHODS) == {
        "base", "best-of-n", "static", "npc-paper", "npc", "npc-no-negatives", "npc-oracle",
        "rewrite",
    }  # fmt: skip
    assert all(len(method.description) > 20 for method in METHODS.values())
    with pytest.raises(SettingsError, match="'magic'"):
        find("magic")


@pytest.mark.parametrize("method", ["static", "npc-paper", "npc-oracle"])
def test_the_released_rule_is_refused_first_where_a_model_has_it_not(
    method: str, tmp_path: Path
) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    (tmp_path / "transformer/config.json").write_text('{"guidance_embeds": false}')
    load = LoadSettings(model=str(tmp_path), family="flux-schnell")
    roles = RoleSettings(vlm="http://localhost:1/v1#m")
    settings = RunSettings("mini", ("npc", method), load=load, roles=roles)
    with pytest.raises(SettingsError, match=f"'{method}' cannot work here.*rule 'nag' or 'vsf'"):
        tools.check(settings, FakeBench(), VLMTable())
    tools.check(replace(settings, methods=("npc", "base")), FakeBench(), VLMTable())


def test_base_draws_once_and_best_of_n_new_seeds() -> None:
    assert len(first("base", stubborn(), 9)) == 1
    some = stubborn()
    attempts = first("best-of-n", some, 4)
    assert [a.generation.drawing.seed for a in attempts] == [3000, 3001, 3002, 3003]
    assert [a.index for a in attempts] == [0, 1, 2, 3]
    assert [a.generation.drawing.negative_prompt for a in attempts] == [None] * 4
    checklister = some.session.roles.checklister
    assert isinstance(checklister, Stubborn)
    assert checklister.checklists == 1, "the prompt is taken apart once"
    assert [a.cost.usage for a in attempts] == [Usage(readings=n) for n in (2, 1, 1, 1)]


@pytest.mark.parametrize(
    ("draw", "start", "rewinds", "evaluations"),
    [
        (DrawSettings(), 2, 0, (10 + 2, 10)),
        (
            DrawSettings(rule="extra", looks=2, rewinds=1),
            2,
            1,
            (6 * 3 + 2 + 10 * 3, 7 * 2 + 10 * 2),
        ),
    ],
)
def test_without_negatives_redrawings_are_those_of_npc_and_none_acts(
    draw: DrawSettings, start: int, rewinds: int, evaluations: tuple[int, int]
) -> None:
    seen: list[dict[str, Any]] = []
    settings = RunSettings("mini", ("npc", "npc-no-negatives"))
    loaded = tools.load(settings, None, VLMTable(), 1).session
    some = replace(stubborn(), session=replace(loaded, roles=Stubborn().roles()), draw=draw)
    sample = Sample(0, "color_attr", "two red bananas", 5)
    for name in ("npc", "npc-no-negatives"):
        _, redrawn = islice(find(name).attempts(task(some, sample, 2)), 2)
        seen.append({**vars(redrawn.generation)})
    npc, control = seen
    assert npc["start_step"] == control["start_step"] == start
    assert npc["rewinds"] == control["rewinds"] == rewinds
    assert (npc["evaluations"], control["evaluations"]) == evaluations
    assert npc["receipt"].evaluations
    assert control["receipt"] is None or not control["receipt"].evaluations
    assert not any(text for _, text in control["steering"])
    assert npc["image"].tobytes() != control["image"].tobytes()
    assert control["drawing"].seed == 6, "the same seed would draw the same"


@pytest.mark.parametrize(
    ("name", "negative"), [("some/model", static.NEGATIVE), ("mini", static.EMBEDDED)]
)
def test_static_pastes_its_negative_everywhere(name: str, negative: str) -> None:
    model = fake_model()
    settings = SessionSettings(load=LoadSettings(model=name))
    session = Session(model, Stubborn().roles(), settings)
    first("static", replace(stubborn(), session=session), 3)
    assert {drawing.negative_prompt for drawing in drawings(model)} == {negative}
    assert [drawing.seed for drawing in drawings(model)] == [3000, 3001, 3002]


def test_npc_is_what_the_program_draws_and_goes_on_from_new_seeds() -> None:
    some = stubborn()
    attempts = first("npc", some, 7)
    program = list(some.session.correct(task(some).request))
    assert len(program) == 3
    drawn = [acting(attempt) for attempt in attempts]
    assert drawn[:3] == [acting(attempt) for attempt in program]
    assert [seed for seed, negative in drawn if negative is None] == [3000, 3003, 3006]
    assert [a.index for a in attempts] == list(range(7))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_only_npc_takes_what_a_prompt_denies_for_a_negative(name: str) -> None:
    class Denying(Stubborn):
        def checklist(self, prompt: str) -> Checklist:
            gone = Requirement("r1", "count", "there is no banana", "banana", "0")
            return Checklist(prompt, (gone,))

    model = fake_model()
    some = replace(fake_tools(), session=Session(model, Denying().roles()))
    if name == "rewrite":
        some = replace(some, writer=FakeVLM([Reply("a long prompt")]))
    first(name, some, 2)
    drawn = [drawing.negative_prompt or "" for drawing in drawings(model)]
    assert [text.startswith("banana") for text in drawn] == [name == "npc"] * len(drawn)


def test_npc_paper_keeps_seed_and_rule() -> None:
    attempts = first("npc-paper", stubborn(), 3)
    assert {a.generation.drawing.rule for a in attempts} == {"paper"}
    assert {a.generation.drawing.seed for a in attempts} == {3000}


def test_the_oracle_is_told_the_benchmarks_checklist() -> None:
    some = stubborn()
    first("npc-oracle", some, 2)
    checklister = some.session.roles.checklister
    assert isinstance(checklister, Stubborn)
    assert checklister.checklists == 0


def test_rewrite_draws_the_new_prompt_verifies_the_old_one_and_pays() -> None:
    model = fake_model()
    vlm = FakeVLM([Reply(" a long prompt ", usage=Usage(1, 30, 12, 0.5, 0, 0.25))])
    attempts = first("rewrite", stubborn(model, writer=vlm), 2)
    assert {drawing.prompt for drawing in drawings(model)} == {"a long prompt"}
    assert attempts[0].cost.usage == Usage(1, 30, 12, 0.5, 0, 0.25, readings=2)
    assert attempts[1].cost.usage == Usage(readings=1)


def test_rewrite_falls_back_to_the_prompt_and_ends_with_the_budget() -> None:
    model = fake_model()
    first("rewrite", stubborn(model, writer=FakeVLM([Reply("", error="no answer")])), 1)
    assert {drawing.prompt for drawing in drawings(model)} == {SAMPLE.prompt}
    stopped = Reply("", error="the budget is used up", stopped=True)
    with pytest.raises(NpcError, match="used up"):
        first("rewrite", stubborn(writer=FakeVLM([stopped])), 1)


def test_a_spent_budget_is_no_missing_verdict() -> None:
    class Broke(FakeRoles):
        def verify(self, image: Image.Image, checklist: Checklist) -> Verdict:
            raise BudgetError("the budget is used up")

    some = replace(fake_tools(), session=Session(fake_model(), Broke().roles()))
    with pytest.raises(NpcError, match="used up"):
        first("npc", some, 1)


def perform(worker: Worker, name: str) -> Record:
    return worker.perform(Job(name, SAMPLE, 3)).record


def test_a_worker_draws_shared_originals_once_and_counts_them_each_time() -> None:
    model = fake_model()
    some = stubborn(model)
    alone = {name: perform(Worker(lambda: some), name) for name in ("best-of-n", "npc")}
    model.drawings.clear()
    worker = Worker(lambda: some)
    together = {name: perform(worker, name) for name in ("best-of-n", "npc")}
    plain = [d for d in drawings(model) if d.negative_prompt is None]
    assert len(plain) == len(set(plain))

    def counts(record: Record) -> list[tuple[Any, ...]]:
        costs = ((step.image, step.cost) for step in record.steps)
        return [(image, c.images, c.evaluations, c.usage.readings) for image, c in costs]

    assert {n: counts(r) for n, r in alone.items()} == {n: counts(r) for n, r in together.items()}


def test_a_method_ends_when_images_and_evaluations_are_both_spent() -> None:
    """A plain picture takes 8 evaluations: 3 images, and the evaluations of 4 plain ones."""
    record = perform(Worker(stubborn), "best-of-n")
    assert record.budget == 32
    assert [s.cost.evaluations for s in record.steps] == [8, 16, 24, 32]
    cheap = perform(Worker(stubborn), "npc-paper")
    assert len(cheap.steps) > 4
    assert cheap.steps[-2].cost.evaluations < 32 <= cheap.steps[-1].cost.evaluations


def test_what_is_handed_over_is_the_best_by_the_verifier_alone() -> None:
    worker = Worker(fake_tools)
    for sample in FakeBench().samples():
        record = worker.perform(Job("best-of-n", sample, 3)).record
        for place, step in enumerate(record.steps):
            assert step.chosen <= place
            assert record.steps[step.chosen].score is not None
        assert record.steps[-1].accepted is not True or record.steps[-1].chosen == place


def test_the_tuning_set_shares_no_prompt_with_minibench() -> None:
    main, tuning = MiniBench().samples(), MiniBench(tuning=True).samples()
    assert len(main) == len(tuning) == 320
    assert {s.tag for s in tuning} == set(TAGS)
    assert not {s.prompt for s in main} & {s.prompt for s in tuning}
    assert MiniBench().checksum() != MiniBench(tuning=True).checksum()


def test_seeds_of_prompts_and_repeats_never_meet() -> None:
    assert max(s.seed for s in MiniBench().samples()) + 1000 < mini_bench.TUNING_OFFSET


def test_a_run_with_a_model_as_verifier_counts_what_it_asks() -> None:
    with loopback() as server:
        settings = RunSettings(
            "mini",
            ("best-of-n",),
            images=2,
            draw=DrawSettings(steps=2),
            roles=RoleSettings(vlm=server.name, cache=False),
        )
        some = tools.load(settings, None, VLMTable(), 1)
        record = Worker(lambda: some).perform(Job("npc", MiniBench().samples()[0], 2)).record
        asked = len(server.questions())
    cost = record.steps[-1].cost
    assert cost.usage.tokens > 0
    assert cost.usage.calls == asked
    checklists = sum(not step.negatives for step in record.steps)
    assert cost.usage.readings == checklists, "prompts are taken apart without the server"
    assert all(not step.error for step in record.steps)
