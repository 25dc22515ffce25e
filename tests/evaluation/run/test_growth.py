"""Runs that grow: by what was left open, by more of everything, and by a second judge."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect.errors import RunStoppedError, SettingsError
from npcorrect.evaluation.benchmarks.base import Judge, Picture, Score
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.report.summary import summarise
from npcorrect.evaluation.run import exchange, manifest, runner
from npcorrect.evaluation.run.failures import Failures
from npcorrect.evaluation.run.fake import FakeBench, FakeJudge, FakeRoles, fake_manifest, fake_tools
from npcorrect.evaluation.run.manifest import Manifest, Shard
from npcorrect.evaluation.run.records import Key, Record
from npcorrect.evaluation.run.runner import Load
from npcorrect.evaluation.run.store import Store
from npcorrect.records import Checklist, Verdict
from npcorrect.vlm.roles import Roles


class SureJudge(FakeJudge):
    """Judges every picture, and notes which."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def scores(self, pictures: Sequence[Picture]) -> list[Score]:
        self.seen += [sample.id for sample, _ in pictures]
        return [Score(float(image.convert("L").tobytes()[0] == 192)) for _, image in pictures]


class DownJudge(FakeJudge):
    """A judge whose server is down after so many pictures."""

    def __init__(self, after: int) -> None:
        self._left = after

    def _score(self, image: Image.Image) -> Score:
        self._left -= 1
        return Score(1.0) if self._left >= 0 else Score(None, "connection refused")


class DownVerifier(FakeRoles):
    """A verifier whose server is down."""

    def verify(self, image: Image.Image, checklist: Checklist) -> Verdict:
        return Verdict((), "connection refused")


def tools(judge: Judge | None = None, roles: Roles | None = None) -> Tools:
    made = fake_tools()
    session = replace(made.session, roles=roles) if roles else made.session
    return replace(made, judge=judge or SureJudge(), session=session)


@contextmanager
def opening(judge: Judge) -> Iterator[Judge]:
    yield judge


def carry_out(
    folder: Path,
    made: Manifest | None = None,
    load: Load = tools,
    judge: Judge | None = None,
) -> list[Record]:
    made = made or fake_manifest()
    samples = manifest.samples(made.settings, FakeBench())
    opened = None if judge is None else partial(opening, judge)
    store = Store(folder)
    runner.run(store, made, samples, load, runner.in_process, lambda record: None, opened)
    return store.records()


def refuse() -> Tools:
    raise AssertionError("nothing had to be drawn")


def timeless(records: Sequence[Record]) -> list[Any]:
    return [
        replace(r, steps=tuple(replace(s, cost=replace(s.cost, seconds=0)) for s in r.steps))
        for r in records
    ]


def test_what_is_unscored_is_judged_again_from_the_kept_pictures(tmp_path: Path) -> None:
    with pytest.raises(RunStoppedError, match="connection refused"):
        carry_out(tmp_path / "run", load=partial(tools, DownJudge(9)))
    before = Store(tmp_path / "run").records()
    left = [record for record in before if record.open_pictures]
    assert left
    assert len(before) < 48, "it stopped"
    judge = SureJudge()
    after = carry_out(tmp_path / "run", judge=judge)
    assert not any(record.open_pictures for record in after)
    assert set(judge.seen) == {record.key.sample for record in left}
    pictures = {name for record in left for name in record.open_pictures}
    assert len(judge.seen) == len(pictures), "a shared picture is judged once"
    settled = {r.key: r for r in before if not r.open_pictures}
    assert all(settled.get(r.key, r) == r for r in after)


def test_a_run_that_was_starved_extended_and_merged_equals_a_plain_one(tmp_path: Path) -> None:
    for number in (1, 2):
        part = partial(fake_manifest, shard=Shard(number, 2))
        folder = tmp_path / str(number)
        with pytest.raises(RunStoppedError):
            carry_out(folder, part(limit=11, methods=("base",)), partial(tools, DownJudge(0)))
        carry_out(folder, part(limit=11, methods=("base",)), judge=SureJudge())
        carry_out(folder, part(limit=11, methods=("npc", "base")), judge=SureJudge())
        carry_out(folder, part(methods=("npc",), seeds=2), judge=SureJudge())
        carry_out(folder, part(methods=("base",), seeds=2), judge=SureJudge())
    exchange.merge([Store(tmp_path / "1"), Store(tmp_path / "2")], tmp_path / "merged")
    plain = carry_out(tmp_path / "plain", fake_manifest(methods=("base", "npc"), seeds=2))
    assert timeless(Store(tmp_path / "merged").records()) == timeless(plain)
    grown = Store(tmp_path / "merged").manifest().settings
    assert (set(grown.methods), grown.seeds, grown.limit) == ({"base", "npc"}, 2, None)


def test_a_greater_limit_takes_the_same_prompts_and_more() -> None:
    taken = [
        {s.id for s in manifest.samples(fake_manifest(limit=n).settings, FakeBench())}
        for n in range(1, 13)
    ]
    assert [len(some) for some in taken] == list(range(1, 13))
    assert all(less < more for less, more in pairwise(taken))


def test_a_run_continued_with_less_keeps_what_it_has(tmp_path: Path) -> None:
    whole = carry_out(tmp_path)
    assert carry_out(tmp_path, fake_manifest(limit=2, methods=("base",)), refuse) == whole
    assert Store(tmp_path).manifest().settings == fake_manifest().settings


def test_samples_without_a_verdict_are_open_counted_and_done_again(tmp_path: Path) -> None:
    down = partial(tools, roles=DownVerifier().roles())
    made = fake_manifest(limit=4, methods=("best-of-n",))
    records = carry_out(tmp_path, made, down)
    assert all(record.unverified for record in records)
    report = summarise([tmp_path], source=FakeBench())
    assert report.rows[0].unverified == 4
    assert any("no verdict on 4 of 4" in warning for warning in report.warnings)
    with pytest.raises(RunStoppedError, match="the verifier: connection refused"):
        carry_out(tmp_path / "more", fake_manifest(methods=("best-of-n",)), down)
    again = carry_out(tmp_path, made)
    assert not any(record.unverified for record in again)
    assert timeless(again) == timeless(carry_out(tmp_path / "plain", made))


@pytest.mark.parametrize("damage", ["gone", "cut", "other", "link"])
def test_a_record_whose_picture_is_damaged_is_open_again(damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    whole = carry_out(folder)
    store, record = Store(folder), whole[5]
    path = store.picture(record.steps[0].image)
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "other":
        path.write_bytes(store.picture(whole[0].steps[0].image).read_bytes() + b" ")
    elif damage == "link":
        (tmp_path / "copy.png").write_bytes(content)
        path.symlink_to(tmp_path / "copy.png")
    assert store.read_picture(record.steps[0].image) is None
    assert timeless(carry_out(folder)) == timeless(whole)
    assert path.read_bytes() == content
    assert not path.is_symlink()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        b"\xff\xfe",
        '{"key": {}}',
        "[" * 10_000,
        "update",
        "another",
        "chosen",
    ],
)
def test_a_damaged_record_is_one_sentence_and_done_again(
    body: str | bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = fake_manifest(limit=2, methods=("base", "npc"))
    whole = carry_out(tmp_path, made, judge=SureJudge())
    good = [sqlite_body(tmp_path, method) for method in ("npc", "base")]
    damaged = {
        "update": good[0][:-1],
        "another": good[1],
        "chosen": good[0].replace('"chosen":0', '"chosen":7'),
    }.get(body if isinstance(body, str) else "", body)
    with closing(sqlite3.connect(tmp_path / "records.sqlite")) as connection, connection:
        connection.execute("update record set body = ? where method = 'npc'", (damaged,))
    with pytest.raises(SettingsError, match=r"npc on prompt 1: .*give the run's command again"):
        Store(tmp_path).records()
    assert timeless(carry_out(tmp_path, made, judge=SureJudge())) == timeless(whole)
    said = [line.getMessage() for line in caplog.records]
    assert len(said) == 2
    assert all("npc on prompt" in line and "it is done again" in line for line in said)
    assert not any("\n" in line for line in said)


def sqlite_body(run: Path, method: str) -> str:
    with closing(sqlite3.connect(run / "records.sqlite")) as connection:
        query = "select body from record where method = ?"
        return str(connection.execute(query, (method,)).fetchone()[0])


def test_one_bad_reply_that_many_methods_share_is_one_failure() -> None:
    record = _record(1, "base")
    failures = Failures(3)
    for method in ("base", "npc", "static", "rewrite"):
        failures.see(replace(record, key=Key(1, 0, method)))
    failures.see(_record(2, "base"))
    failures.see(_record(3, "base", 1.0))
    for sample in (4, 5):
        failures.see(_record(sample, "base"))
    with pytest.raises(RunStoppedError, match="3 samples in a row"):
        failures.see(_record(6, "base"))


def test_one_failure_for_good_stops_nothing_and_several_in_a_row_do() -> None:
    failures = Failures(5, 3)
    for sample in (1, 2):
        failures.see(_refused(sample))
    failures.see(_record(3, "base", 1.0))
    for sample in (4, 5):
        failures.see(_refused(sample))
    with pytest.raises(RunStoppedError, match=r"3 samples in a row.*the key is refused"):
        failures.see(_refused(6))


def _refused(sample: int) -> Record:
    gone = Score(None, "the key is refused", fatal=True)
    return exchange._done(fake_manifest(methods=("base",)), _sample(sample), b"x", gone).record


def _record(sample: int, method: str, value: float | None = None) -> Record:
    score = Score(value, "" if value is not None else "timed out")
    done = exchange._done(fake_manifest(methods=(method,)), _sample(sample), b"x", score)
    return done.record


def _sample(number: int) -> Any:
    return FakeBench().samples()[number - 1]


class TestSecondJudge:
    def test_the_same_pictures_are_judged_once_more_and_compared(self, tmp_path: Path) -> None:
        carry_out(tmp_path)
        store, samples = Store(tmp_path), FakeBench().samples()

        class Contrary(SureJudge):
            def scores(self, pictures: Sequence[Picture]) -> list[Score]:
                given = super().scores(pictures)
                return [
                    replace(score, value=1 - (score.value or 0)) if sample.tag == "count" else score
                    for score, (sample, _) in zip(given, pictures, strict=True)
                ]

        judge = Contrary()
        runner.second_judge(store, samples, judge, "other", lambda record: None)
        asked = len(judge.seen)
        runner.second_judge(store, samples, judge, "other", lambda record: None)
        assert len(judge.seen) == asked, "nothing is asked twice"
        report = summarise([tmp_path], source=FakeBench())
        rows = {row.tag: row for row in report.agreements}
        assert (rows["colour"].same, rows["count"].same) == (1.0, 0.0)
        assert rows["colour"].kappa == 1
        assert (rows["count"].kappa or 0) < 0
        assert rows[""].n == sum(rows[tag].n for tag in ("colour", "count", "place"))
        theirs = summarise([tmp_path], source=FakeBench(), judge="other")
        assert theirs.judges == ("other",)
        flipped = theirs.rows[0].tags["count"].score, report.rows[0].tags["count"].score
        assert flipped[0] is not None
        assert flipped[1] is not None
        assert flipped[0].mean == pytest.approx(1 - flipped[1].mean)
        with pytest.raises(SettingsError, match="further judges there: other"):
            summarise([tmp_path], source=FakeBench(), judge="nobody")

    def test_merging_keeps_what_further_judges_said(self, tmp_path: Path) -> None:
        carry_out(tmp_path / "one", fake_manifest(limit=3))
        samples = FakeBench().samples()
        runner.second_judge(Store(tmp_path / "one"), samples, SureJudge(), "b", lambda r: None)
        exchange.merge([Store(tmp_path / "one")], tmp_path / "all")
        assert Store(tmp_path / "all").scores("b") == Store(tmp_path / "one").scores("b") != {}


class TestShards:
    def test_shards_that_contradict_each_other_are_refused(self, tmp_path: Path) -> None:
        made = fake_manifest(limit=3)
        carry_out(tmp_path / "a", made)

        class Other(SureJudge):
            def scores(self, pictures: Sequence[Picture]) -> list[Score]:
                return [Score(1 - (s.value or 0)) for s in super().scores(pictures)]

        carry_out(tmp_path / "b", made, partial(tools, Other()))
        with pytest.raises(SettingsError, match="contradicts"):
            exchange.merge([Store(tmp_path / "a"), Store(tmp_path / "b")], tmp_path / "all")

    def test_a_shard_that_says_more_is_taken(self, tmp_path: Path) -> None:
        made = fake_manifest(limit=3)
        carry_out(tmp_path / "a", made, partial(tools, DownJudge(0)))
        whole = carry_out(tmp_path / "b", made)
        opened = [r.key for r in Store(tmp_path / "a").records() if r.open_pictures]
        assert opened
        stores = [Store(tmp_path / name) for name in "ab"]
        kept = {r.key: r for r in whole}
        exchange.merge(stores[::-1], tmp_path / "all")
        assert Store(tmp_path / "all").records() == list(kept.values())

    def test_disjoint_shards_reported_together_are_told(self, tmp_path: Path) -> None:
        made = partial(fake_manifest, methods=("base",))
        carry_out(tmp_path / "a", made(shard=Shard(1, 2)))
        carry_out(tmp_path / "b", made(shard=Shard(2, 2)))
        report = summarise([tmp_path / "a", tmp_path / "b"], source=FakeBench())
        assert any("all of them have 0" in warning for warning in report.warnings)
        assert report.lines == []
        assert [row.official[0].n for row in report.rows] == [6, 6]


def test_other_weights_under_one_name_are_told(tmp_path: Path) -> None:
    for name, weights in (("a", "sha256:1"), ("b", "sha256:2")):
        carry_out(tmp_path / name, replace(fake_manifest(limit=1), weights=weights))
    report = summarise([tmp_path / "a", tmp_path / "b"], source=FakeBench())
    assert any("different weights" in warning for warning in report.warnings)
    with pytest.raises(SettingsError, match="other weights"):
        carry_out(tmp_path / "a", replace(fake_manifest(limit=1), weights="sha256:2"))
