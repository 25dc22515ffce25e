"""Pictures and results from elsewhere, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from PIL import Image

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks import official
from npcorrect.evaluation.benchmarks.base import Picture, Sample, Score
from npcorrect.evaluation.benchmarks.geneval import GenEval
from npcorrect.evaluation.benchmarks.geneval_pp import GenEvalPP
from npcorrect.evaluation.benchmarks.official_files import FILES, NEGGENBENCH, OfficialFile
from npcorrect.evaluation.methods import plain
from npcorrect.evaluation.methods.base import Task, Tools
from npcorrect.evaluation.report.summary import summarise
from npcorrect.evaluation.run import exchange, manifest, runner
from npcorrect.evaluation.run.fake import FakeBench, FakeJudge, fake_manifest, fake_tools
from npcorrect.evaluation.run.manifest import Manifest, RunSettings, Shard
from npcorrect.evaluation.run.pictures import PictureFile
from npcorrect.evaluation.run.store import Store
from npcorrect.evaluation.run.tools import NO_JUDGE
from npcorrect.evaluation.run.worker import Done
from npcorrect.files import decode_picture
from npcorrect.vlm.fake import FakeVLM
from tests.evaluation.official_data import needs
from tests.http_server import serving_http


def elsewhere(source: object, name: str = "theirs", judge: str | None = None) -> Manifest:
    settings = RunSettings(str(getattr(source, "name", "")), (name,), images=0, judge=judge)
    return Manifest(settings, "data", "code", {}, "")


def drawn(folder: Path, skip: frozenset[int] = frozenset()) -> dict[int, Path]:
    """The pictures of a method as PNG files on disk."""
    paths = {}
    folder.mkdir(parents=True, exist_ok=True)
    for sample in FakeBench().samples():
        (attempt,) = plain.attempts(Task(sample, 1, fake_tools().session))
        if sample.id not in skip:
            paths[sample.id] = folder / f"{sample.id}.png"
            attempt.generation.image.convert("RGB").save(paths[sample.id])
    return paths


def test_pictures_from_elsewhere_are_judged_like_our_own(tmp_path: Path) -> None:
    source, samples = FakeBench(), FakeBench().samples()
    drawn(tmp_path / "pictures", skip=frozenset({5}))
    found = exchange.find_pictures(source, samples, tmp_path / "pictures")
    assert found.keys() == {(s.id, 0) for s in samples} - {(5, 0)}
    judge, store = FakeJudge(), Store(tmp_path / "run")
    made = replace(elsewhere(source), data=source.checksum())
    score = partial(exchange.score_pictures, store, made, samples, found, judge)
    score(lambda record: None)
    records = store.records()
    assert [r.key.sample for r in records] == [s.id for s in samples]
    missing = records[4].score()
    assert (missing.value, missing.reason, missing.missing) == (None, "there is no picture", True)

    again: list[int] = []
    score(lambda record: again.append(record.key.sample))
    assert len(again) == len(samples), "nothing is judged twice"
    assert store.records() == records

    ours = tmp_path / "ours"
    runner.run(
        Store(ours),
        fake_manifest(methods=("base",)),
        samples,
        fake_tools,
        runner.in_process,
        lambda record: None,
    )
    report = summarise([ours, tmp_path / "run"], source=source)
    assert [row.label for row in report.rows] == ["base", "theirs"]
    assert report.images == 3
    left = {r.key.sample: r.score().value for r in Store(ours).records()}
    assert all(left[r.key.sample] == r.score().value for r in records if r.key.sample != 5)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    source, samples = FakeBench(), FakeBench().samples()
    path = tmp_path / "1.png"
    path.write_bytes(b"no picture")
    with pytest.raises(SettingsError, match=r"1\.png"):
        exchange.score_pictures(
            Store(tmp_path / "run"),
            elsewhere(source),
            samples,
            {(1, 0): PictureFile(path)},
            FakeJudge(),
            lambda record: None,
        )


def test_a_folder_without_pictures_says_how_they_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"1\.jpg"):
        exchange.find_pictures(GenEvalPP(), FakeBench().samples(), tmp_path)


def test_pictures_may_be_listed_by_prompt(tmp_path: Path) -> None:
    samples = FakeBench().samples()
    paths = drawn(tmp_path / "pictures")
    listed = {s.prompt: str(paths[s.id].relative_to(tmp_path)) for s in samples[:3]}
    (tmp_path / "paths.json").write_text(json.dumps(listed))
    found = exchange.find_pictures(FakeBench(), samples, tmp_path / "paths.json")
    assert {n: file.path for (n, _), file in found.items()} == {
        s.id: paths[s.id] for s in samples[:3]
    }
    (tmp_path / "paths.json").write_text("[]")
    with pytest.raises(SettingsError):
        exchange.find_pictures(FakeBench(), samples, tmp_path / "paths.json")


def test_a_list_of_pictures_is_readable_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was exported, after the folder was moved, and with another working directory."""
    samples = FakeBench().samples()[:2]
    paths = drawn(tmp_path / "out" / "image")
    listed = {s.prompt: str(paths[s.id].resolve()) for s in samples}
    (tmp_path / "out" / "image_paths.json").write_text(json.dumps(listed))
    (tmp_path / "out").rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    found = exchange.find_pictures(FakeBench(), samples, tmp_path / "moved" / "image_paths.json")
    assert [file.path for file in found.values()] == [
        tmp_path / "moved" / "image" / f"{s.id}.png" for s in samples
    ]


def test_pictures_that_are_added_or_replaced_are_judged(tmp_path: Path) -> None:
    source, samples = FakeBench(), FakeBench().samples()
    folder, store = tmp_path / "pictures", Store(tmp_path / "run")
    paths = drawn(folder, skip=frozenset({5}))
    judged: list[int] = []

    class Noting(FakeJudge):
        def scores(self, pictures: Sequence[Picture]) -> list[Score]:
            judged.extend(sample.id for sample, _ in pictures)
            return [Score(1.0) for _ in pictures]

    def score() -> list[int]:
        judged.clear()
        found = exchange.find_pictures(source, samples, folder)
        made = elsewhere(source)
        exchange.score_pictures(store, made, samples, found, Noting(), lambda record: None)
        return list(judged)

    assert score() == [s.id for s in samples if s.id != 5]
    assert score() == []
    paths[3].write_bytes(paths[4].read_bytes())
    (folder / "5.png").write_bytes(paths[6].read_bytes())
    paths[7].unlink()
    assert score() == [3, 5]
    assert [r.key.sample for r in store.records() if r.score().missing] == [7]


@dataclass(frozen=True)
class GridBench(FakeBench):
    """A benchmark whose upstream wants four pictures of a prompt in one file."""

    repeats: int = 4
    grid: int = 2

    def picture_names(self, sample: Sample) -> tuple[str, ...]:
        return (f"{sample.tag}/{{method}}/{sample.id}.png",)

    def write_results(self, *arguments: object) -> None:
        """Nothing."""

    def read_results(self, path: Path) -> dict[tuple[int, int], Score]:
        return {}


def test_a_grid_is_written_and_read_back(tmp_path: Path) -> None:
    source = GridBench()
    made = fake_manifest(methods=("base",), seeds=4, limit=2)
    samples = manifest.samples(made.settings, source)
    store = Store(tmp_path / "run")
    runner.run(store, made, samples, fake_tools, runner.in_process, lambda record: None)
    (folder,) = exchange.export(store, source, tmp_path / "official")
    assert folder == tmp_path / "official" / "base"
    with Image.open(folder / "colour" / "base" / "1.png") as image:
        assert image.size == (16, 16)
    wanted = exchange.official_samples(source, limit=2)
    assert [(s.id, s.repeat, s.seed) for s in wanted] == [(s.id, s.repeat, s.seed) for s in samples]
    found = exchange.find_pictures(source, wanted, folder)
    assert len(found) == 8
    for record in store.records():
        drawn_image = store.image(record.picture())
        read_image = decode_picture(found[record.key.sample, record.key.repeat].read(), "it")
        assert drawn_image is not None
        assert read_image.tobytes() == drawn_image.tobytes()


def test_our_own_benchmark_has_no_official_files(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="our own"):
        exchange.official(FakeBench())


@pytest.fixture
def genevalpp() -> GenEvalPP:
    return GenEvalPP(needs("geneval_pp.jsonl"))


def official_tools(source: GenEvalPP) -> Tools:
    judge = source.judge(FakeVLM(['{"correct": 1, "reason": "<fine>"}'], repeat=True))
    return replace(fake_tools(), judge=judge, benchmark=source)


def test_a_run_is_written_as_upstream_expects_and_read_back(
    genevalpp: GenEvalPP, tmp_path: Path
) -> None:
    settings = RunSettings("geneval++", ("base", "npc"), images=2, limit=5, seeds=2, judge="fake")
    made = Manifest(settings, genevalpp.checksum(), "code", {}, "")
    samples = manifest.samples(settings, genevalpp)
    store = Store(tmp_path / "run")
    load = partial(official_tools, genevalpp)
    runner.run(store, made, samples, load, runner.in_process, lambda record: None)
    folders = exchange.export(store, genevalpp, tmp_path / "official")
    assert {str(f.relative_to(tmp_path / "official")) for f in folders} == {
        "base/seed-0", "base/seed-1", "npc/seed-0", "npc/seed-1"
    }  # fmt: skip
    for folder in folders:
        names = sorted(int(p.stem) for p in (folder / "image").iterdir())
        assert names == sorted({s.id for s in samples})
        for path in (folder / "image").iterdir():
            with Image.open(path) as image:
                assert (image.format, path.suffix) == ("JPEG", ".jpg")
    results = json.loads((folders[0] / "Output.json").read_text())["overall_results"]
    assert sum(row["result"]["correct"] for row in results) == 5
    assert results[0]["result"]["reason"] == "<fine>"

    scores = genevalpp.read_results(folders[0] / "Output.json")
    everything = genevalpp.samples()
    pictures = exchange.find_pictures(genevalpp, everything, folders[0] / "image")
    back = Store(tmp_path / "back")
    theirs = replace(elsewhere(genevalpp), data=genevalpp.checksum())
    exchange.keep_scores(back, theirs, everything, scores, pictures, lambda record: None)
    report = summarise([tmp_path / "back"], source=genevalpp, faults=True)
    assert report.rows[0].official[0].value == pytest.approx(5 / 280)
    assert report.rows[0].official[-1].fault


def test_shards_are_merged_into_the_whole(tmp_path: Path) -> None:
    def carry_out(name: str, made: Manifest) -> Store:
        store = Store(tmp_path / name)
        samples = manifest.samples(made.settings, FakeBench())
        runner.run(store, made, samples, fake_tools, runner.in_process, lambda record: None)
        return store

    parts = [carry_out(f"part-{n}", fake_manifest(shard=Shard(n, 3))) for n in (1, 2, 3)]
    whole = carry_out("whole", fake_manifest())
    merged = Store(tmp_path / "merged")
    exchange.merge(parts[:2], merged.folder)
    assert len(merged.records()) < len(whole.records())
    exchange.merge(parts, merged.folder)

    def timeless(store: Store) -> list[object]:
        return [
            replace(r, steps=tuple(replace(s, cost=replace(s.cost, seconds=0)) for s in r.steps))
            for r in store.records()
        ]

    assert timeless(merged) == timeless(whole)
    assert all(merged.picture(s.image).is_file() for r in merged.records() for s in r.steps)
    carry_out("merged", fake_manifest())
    other = carry_out("other", fake_manifest(images=2, shard=Shard(1, 3)))
    with pytest.raises(SettingsError, match="images"):
        exchange.merge([other], merged.folder)


class TestFetch:
    """Official files over loopback."""

    content = b'{"prompt": "two pigs"}\n'

    @pytest.fixture
    def upstream(self) -> Iterator[str]:
        content = self.content

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path == "/file.jsonl"
                self.send_response(200 if known else 404)
                self.end_headers()
                if known:
                    self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        with serving_http(Handler) as address:
            yield address

    def file(self, url: str) -> OfficialFile:
        return OfficialFile("Data.jsonl", url, sha256(self.content).hexdigest(), "Apache-2.0")

    def test_a_file_is_fetched_verified_and_found(self, upstream: str, tmp_path: Path) -> None:
        file = self.file(f"{upstream}/file.jsonl")
        path = official.fetch(file, tmp_path / "cache")
        assert path.read_bytes() == self.content
        assert official.locate(file, tmp_path / "cache") == path
        assert official.fetch(self.file("http://127.0.0.1:9/none"), tmp_path / "cache") == path

    def test_another_file_is_refused_and_not_kept(self, upstream: str, tmp_path: Path) -> None:
        file = replace(self.file(f"{upstream}/file.jsonl"), hash="0" * 64)
        with pytest.raises(SettingsError, match="nothing was written"):
            official.fetch(file, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_a_file_that_is_not_there_is_a_sentence(self, upstream: str, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"404.*--data"):
            official.fetch(self.file(f"{upstream}/none"), tmp_path)

    def test_a_file_that_was_changed_is_not_used(self, tmp_path: Path) -> None:
        file = self.file("http://127.0.0.1:9/none")
        with pytest.raises(SettingsError, match="npc bench fetch"):
            official.locate(file, tmp_path)
        (tmp_path / "Data.jsonl").write_bytes(self.content + b" ")
        with pytest.raises(SettingsError, match="not the official"):
            official.locate(file, tmp_path)


def test_every_official_file_is_pinned() -> None:
    names = [file.name for files in FILES.values() for file in files]
    assert len(set(names)) == len(names), "two files would lie in one place"
    for file in (file for files in FILES.values() for file in files):
        assert len(file.hash) in (40, 64) or file == NEGGENBENCH
        assert file.url.startswith("https://raw.githubusercontent.com/")
        assert len(file.url.split("/")[5]) == 40


def test_pictures_are_left_to_upstreams_evaluator_and_its_results_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = [
        {"tag": tag, "prompt": f"a photo of a {thing}", "include": [{"class": thing, "count": 1}]}
        for tag, thing in (("single_object", "bench"), ("colors", "cow"))
    ]
    path = tmp_path / "geneval" / "evaluation_metadata.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in facts))
    monkeypatch.setattr("npcorrect.evaluation.benchmarks.geneval.locate", lambda file, folder: path)
    source = GenEval(tmp_path)
    settings = RunSettings("geneval", ("base",), images=1, seeds=4, judge=NO_JUDGE)
    made = Manifest(settings, "data", "code", {}, "")
    samples = manifest.samples(settings, source)
    assert len(samples) == 8, "four pictures of each prompt"
    store = Store(tmp_path / "run")
    load = partial(replace, fake_tools(), judge=source.judge(None), benchmark=source)
    runner.run(store, made, samples, load, runner.in_process, lambda record: None)
    asked: list[Sequence[runner.Jobs]] = []

    def again(load: runner.Load, groups: Sequence[runner.Jobs]) -> Iterator[Done]:
        asked.append(groups)
        return runner.in_process(load, groups)

    runner.run(store, made, samples, load, again, lambda record: None)
    assert asked == [], "what upstream's evaluator is to judge is not drawn again"
    (folder,) = exchange.export(store, source, tmp_path / "official")
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    pictures = [f"0000{n}/samples/0000{k}.png" for n in (0, 1) for k in range(4)]
    assert names == sorted([*pictures, "00000/metadata.jsonl", "00001/metadata.jsonl"])

    results = tmp_path / "results.jsonl"
    rows = [
        {"filename": str(folder / name), "correct": k % 4 == 0, "reason": ""}
        for k, name in enumerate(pictures)
    ]
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = exchange.find_pictures(source, samples, folder)
    back = Store(tmp_path / "back")
    scores = source.read_results(results)
    exchange.keep_scores(
        back, replace(elsewhere(source), data="data"), samples, scores, found, lambda record: None
    )
    report = summarise([tmp_path / "back"], source=source)
    assert report.rows[0].official[0].value == pytest.approx(0.25)
