"""Figures by how hard prompts are, as plain pictures of another run say it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from statistics import fmean

import pytest
from rich.console import Console
from typer.testing import CliRunner

from npcorrect.cli import app
from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import Score
from npcorrect.evaluation.report import files
from npcorrect.evaluation.report.difficulty import LEVELS, level
from npcorrect.evaluation.report.summary import Report, summarise
from npcorrect.evaluation.run import exchange, manifest, runner
from npcorrect.evaluation.run.fake import PROMPTS, FakeBench, fake_manifest, fake_tools
from npcorrect.evaluation.run.manifest import Manifest
from npcorrect.evaluation.run.store import Store
from npcorrect.settings import DrawSettings, LoadSettings
from tests.serve.browser import chromium, installed, show

Values = Mapping[int, Sequence[float | None]]
"""Scores of each prompt's pictures, by its id; one for each seed, None where it is unscored."""
SEEDS = 7
EASE = {prompt: prompt % 6 for prompt in range(1, PROMPTS + 1)}
"""How many of five plain pictures are right, by prompt."""


def scripted(folder: Path, values: Values, made: Manifest | None = None) -> Path:
    """A run of one method with these scores."""
    made = made or fake_manifest(methods=("base",), images=1, seeds=SEEDS)
    wanted = [s for s in manifest.samples(made.settings, FakeBench()) if s.id in values]
    scores = {
        (s.id, s.repeat): Score(values[s.id][s.repeat], "said")
        for s in wanted
        if s.repeat < len(values[s.id])
    }
    kept = [sample for sample in wanted if (sample.id, sample.repeat) in scores]
    exchange.keep_scores(Store(folder), made, kept, scores, {}, lambda record: None)
    return folder


def ease(right: int, scored: int = 5, drawn: float = 1.0) -> list[float | None]:
    """Scores of a prompt: two seeds that a run of two seeds draws too, then its own."""
    return [drawn, drawn, *(float(n < right) for n in range(scored))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All prompts with two seeds, by four methods."""
    folder = tmp_path_factory.mktemp("run") / "fake"
    made = fake_manifest(seeds=2)
    samples = manifest.samples(made.settings, FakeBench())
    runner.run(Store(folder), made, samples, fake_tools, runner.in_process, lambda record: None)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five plain pictures of each prompt beside the run's seeds; of the last, none is scored."""
    values: dict[int, list[float | None]] = {prompt: ease(n) for prompt, n in EASE.items()}
    values[PROMPTS] = [1.0, 1.0, None, None]
    return scripted(tmp_path_factory.mktemp("plain") / "plain", values)


@pytest.fixture(scope="module")
def report(run: Path, plain: Path) -> Report:
    return summarise([run], source=FakeBench(), difficulty=plain)


@pytest.fixture(scope="module")
def written(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    files.write(report, folder)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.parametrize(
    ("right", "of", "says"),
    [(0, 5, "hard"), (1, 5, "hard"), (3, 15, "hard"), (4, 15, "middle"), (9, 15, "middle"),
     (3, 5, "middle"), (10, 15, "easy"), (1, 1, "easy")],
)  # fmt: skip
def test_the_level_is_told_by_the_share_of_right_plain_pictures(
    right: int, of: int, says: str
) -> None:
    assert level(right / of) == says


def test_prompts_are_told_apart_by_pictures_that_no_method_began_with(report: Report) -> None:
    assert report.difficulty
    expected = {prompt: level(n / 5) for prompt, n in EASE.items()} | {PROMPTS: "unknown"}
    assert {p: e.level for p, e in report.difficulty.prompts.items()} == expected
    assert [stratum.level for stratum in report.strata] == [*LEVELS, "unknown"]
    for stratum in report.strata[:3]:
        assert stratum.pictures == "5", "two of seven were the run's own"
        assert len(stratum.prompts) == list(expected.values()).count(stratum.level)
    assert (report.strata[-1].pictures, report.strata[-1].ease) == ("0", None)
    assert any("1 of 12 prompts are of unknown difficulty" in one for one in report.warnings)


@pytest.mark.parametrize(("lucky", "says"), [(1.0, "hard"), (0.0, "easy")])
def test_lucky_originals_make_no_prompt_easy(
    lucky: float, says: str, run: Path, tmp_path: Path
) -> None:
    """The pictures that the run began with say the contrary of all others."""
    right = 5 if says == "easy" else 0
    plain = scripted(tmp_path / "p", {n: ease(right, drawn=lucky) for n in EASE})
    (stratum,) = summarise([run], source=FakeBench(), difficulty=plain).strata
    assert stratum.level == says


def test_a_prompt_rests_on_what_is_scored_and_the_report_says_on_how_many(
    run: Path, tmp_path: Path
) -> None:
    plain = scripted(tmp_path / "p", {1: [1.0, 1.0, 0.0, None, 0.0], 2: ease(0), 3: [1.0, 1.0]})
    report = summarise([run], source=FakeBench(), difficulty=plain)
    hard, unknown = report.strata
    assert [(e.right, e.pictures) for e in hard.prompts] == [(0, 2), (0, 5)]
    assert hard.pictures == "2 to 5"
    assert len(unknown.prompts) == PROMPTS - 2, "only the run's own seeds, or no picture at all"


def test_every_figure_of_a_stratum_is_that_of_its_samples(report: Report, written: Path) -> None:
    samples = rows_of(written / "report.csv")
    lines = rows_of(written / "summary.csv")
    first = {(r["sample"], r["repeat"]): r["score"] for r in samples if r["method"] == "base"}
    seen = 0
    for stratum in report.strata:
        mine = [r for r in samples if r["difficulty"] == stratum.level]
        for row in stratum.rows:
            own = [r for r in mine if r["method"] == row.label]
            scored = [float(r["score"]) for r in own if r["score"]]
            score = row.final.score
            assert score
            assert (len(own), len(scored)) == (row.samples, score.n)
            assert fmean(scored) == pytest.approx(score.mean)
            kept = [
                float(r["kept"])
                for r in own
                if r["score"] == "1" and first[r["sample"], r["repeat"]] == "0"
            ]
            assert (row.kept.n if row.kept else 0) == len(kept)
            assert row.kept is None or row.kept.mean == pytest.approx(fmean(kept))
            (line,) = [
                one for one in lines
                if (one["difficulty"], one["method"]) == (stratum.level, row.label)
            ]  # fmt: skip
            assert float(line["score"]) == pytest.approx(score.mean, abs=1e-6)
            assert [p.limit for p in row.evaluations] == [8, 16, 24, 32]
            seen += len(own)
        for versus in stratum.versus:
            assert versus.first == "npc"
            assert all(c.difference.n <= stratum.rows[0].samples for _, c in versus.images)
    assert seen == len(samples) == sum(row.samples for row in report.rows)
    assert [line["method"] for line in lines if line["difficulty"] == "all"] == [
        row.label for row in report.rows
    ]


def test_strata_are_in_all_forms(
    report: Report, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = json.loads((written / "report.json").read_text())
    texts = [(written / name).read_text() for name in ("report.md", "report.html")]
    tex = (written / "summary.tex").read_text()
    files.show(report, Console())
    shown = " ".join(capsys.readouterr().out.split())
    assert figures["difficulty"]["run"] == "plain"
    assert figures["difficulty"]["prompts"]["3"] == {"level": "middle", "right": 3, "pictures": 5}
    assert all("hard: at most 20 %, middle: at most 60 %, easy: more" in one for one in texts)
    for stratum, one in zip(report.strata, figures["strata"], strict=True):
        prompts = len(stratum.prompts)
        assert (one["level"], one["prompts"]) == (stratum.level, prompts)
        assert f"## Difficulty: {stratum.level}" in texts[0]
        assert f"<summary>{stratum.level}: every table</summary>" in texts[1]
        assert f"{{l}}{{{stratum.level}, {prompts} prompts}}" in tex
        score = stratum.rows[-1].final.score
        assert score
        assert one["methods"][-1]["images"][-1]["score"]["mean"] == score.mean
        assert f"{stratum.level}, {prompts} prompts, npc: {100 * score.mean:.1f} %" in shown
        cells = f"{prompts} | {stratum.pictures} |"
        assert f"| {stratum.level} | {cells}" in texts[0]
    for name in ("fake", "plain"):
        assert f"<details><summary>{name}</summary><pre>" in texts[1], "how each run was made"
    assert len(figures["strata"][0]["comparisons"]) == 3
    sections = texts[0].split("## Difficulty: ")[1:]
    for section in sections:
        heads = ("Equal images", "Equal denoiser evaluations", "npc against base", "By tag")
        assert all(f"### {head}" in section for head in heads)
    for table in (t.strip().splitlines() for t in texts[0].split("\n\n") if t.lstrip()[:1] == "|"):
        assert set(table[1]) == {"|", "-"}
        assert len({line.count("|") for line in table}) == 1


def test_without_a_difficulty_nothing_of_it_is_written(run: Path, tmp_path: Path) -> None:
    report = summarise([run], source=FakeBench())
    files.write(report, tmp_path)
    assert (report.difficulty, report.strata) == (None, ())
    assert "difficulty" not in rows_of(tmp_path / "report.csv")[0]
    assert "difficulty" not in rows_of(tmp_path / "summary.csv")[0]
    assert "ifficulty" not in (tmp_path / "report.md").read_text()


def test_right_is_the_full_score_where_there_are_grades(run: Path, tmp_path: Path) -> None:
    plain = scripted(tmp_path / "p", {1: [0.0, 0.0, 9.5, 9.9, 10.0]})
    report = summarise([run], source=FakeBench(scale=10.0), difficulty=plain)
    assert report.difficulty
    assert vars(report.difficulty.prompts[1]) == {"right": 1, "pictures": 3}


def test_a_method_without_a_prompt_of_a_level_is_left_out_there(
    run: Path, plain: Path, tmp_path: Path
) -> None:
    theirs = replace(fake_manifest(methods=("theirs",), images=3))
    scripted(tmp_path / "few", {1: [1.0], 7: [0.0]}, theirs)
    report = summarise([run, tmp_path / "few"], source=FakeBench(), difficulty=plain)
    files.write(report, tmp_path / "report")
    labels = {s.level: [row.label for row in s.rows] for s in report.strata}
    assert "theirs" in labels["hard"]
    assert "theirs" not in labels["easy"]
    alone = summarise(
        [run, tmp_path / "few"], source=FakeBench(), difficulty=plain, against="theirs"
    )
    assert [bool(s.versus) for s in alone.strata] == [True, False, False, False]
    files.write(alone, tmp_path / "alone")


def test_a_figure_that_a_stratum_lacks_leaves_its_column_empty(tmp_path: Path) -> None:
    """GenEval++ has a second figure where pictures are missing, here of a hard prompt's alone."""
    scores = {1: Score(None, missing=True), 2: Score(1.0), 3: Score(0.0)}
    for name, theirs in (("a", scores), ("b", dict.fromkeys(scores, Score(1.0)))):
        made = fake_manifest(benchmark="geneval++", methods=(name,), images=1)
        wanted = [s for s in FakeBench().samples() if s.id in theirs]
        placed = {(prompt, 0): score for prompt, score in theirs.items()}
        exchange.keep_scores(Store(tmp_path / name), made, wanted, placed, {}, lambda record: None)
    made = fake_manifest(benchmark="geneval++", methods=("base",), images=1, seeds=SEEDS)
    plain = scripted(tmp_path / "p", {1: ease(0), 2: ease(5), 3: ease(5)}, made)
    report = summarise([tmp_path / "a", tmp_path / "b"], difficulty=plain)
    files.write(report, tmp_path / "report")
    assert [len(stratum.official) for stratum in report.strata] == [2, 1]
    tex = (tmp_path / "report" / "summary.tex").read_text().splitlines()
    rows = [line for line in tex if line.startswith(("Method", "a ", "b "))]
    assert len(rows) == 1 + 3 * 2
    assert {line.count(" & ") for line in rows} == {7}
    text = (tmp_path / "report" / "report.md").read_text()
    for table in (part.strip().splitlines() for part in text.split("\n\n") if "| method |" in part):
        assert len({line.count("|") for line in table}) == 1


PLAIN = fake_manifest(methods=("base",), images=1, seeds=SEEDS)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (replace(PLAIN, data="other"), "\\(mini\\) are not those of 'fake' \\(mini\\)"),
        (fake_manifest(benchmark="geneval++", methods=("base",), images=1, seeds=SEEDS),
         "\\(geneval\\+\\+\\) are not those"),
        (fake_manifest(methods=("base",), images=1, seeds=SEEDS, load=LoadSettings(model="x/y")),
         "drawn with model x/y instead of mini"),
        (fake_manifest(methods=("base",), images=1, seeds=SEEDS, load=LoadSettings(lora=("a",))),
         "lora a instead of"),
        (fake_manifest(methods=("base",), images=1, seeds=SEEDS,
                       draw=DrawSettings(steps=9, negative_prompt="blur")),
         "steps 9 instead of None; negative_prompt blur instead of None"),
        (fake_manifest(methods=("base",), images=1, seeds=SEEDS, draw=DrawSettings(rule="extra")),
         "rule extra instead of None"),
        (fake_manifest(methods=("npc",), images=1, seeds=SEEDS), "no pictures of the method"),
        (fake_manifest(methods=("base",), images=0, seeds=SEEDS), "no pictures of the method"),
    ],
)  # fmt: skip
def test_a_run_that_says_nothing_of_these_plain_pictures_is_refused(
    made: Manifest, says: str, run: Path, tmp_path: Path
) -> None:
    scripted(tmp_path / "p", {1: ease(3)}, made)
    with pytest.raises(SettingsError, match=says):
        summarise([run], source=FakeBench(), difficulty=tmp_path / "p")


def test_other_weights_under_one_name_are_refused(tmp_path: Path) -> None:
    ours = scripted(tmp_path / "a", {1: [1.0]}, replace(PLAIN, weights="w1"))
    theirs = scripted(tmp_path / "p", {1: ease(3)}, replace(PLAIN, weights="w2"))
    with pytest.raises(SettingsError, match="other weights of the image model"):
        summarise([ours], source=FakeBench(), difficulty=theirs)


def test_a_standing_negatives_weight_makes_other_plain_pictures(tmp_path: Path) -> None:
    made = [
        fake_manifest(
            methods=("base",), images=1, seeds=SEEDS,
            draw=DrawSettings(negative_prompt="blur", rule="nag", negative_scale=weight),
        )
        for weight in (2.0, 9.0)
    ]  # fmt: skip
    ours = scripted(tmp_path / "a", {1: [1.0]}, made[0])
    theirs = scripted(tmp_path / "p", {1: ease(3)}, made[1])
    with pytest.raises(SettingsError, match=r"negative_scale 9\.0 instead of 2\.0"):
        summarise([ours], source=FakeBench(), difficulty=theirs)


def test_settings_of_a_correction_alone_make_no_other_plain_picture(
    run: Path, tmp_path: Path
) -> None:
    made = fake_manifest(
        methods=("base",), images=9, seeds=SEEDS, limit=4,
        draw=DrawSettings(looks=2, negative_scale=2.0, fresh=True, batch=2),
        load=LoadSettings(device="cpu", offload="model", offline=True),
    )  # fmt: skip
    plain = scripted(tmp_path / "p", {1: ease(3)}, made)
    assert summarise([run], source=FakeBench(), difficulty=plain).strata[0].level == "middle"


def test_a_run_is_no_measure_of_its_own_originals(run: Path) -> None:
    with pytest.raises(SettingsError, match="more --seeds"):
        summarise([run], source=FakeBench(), difficulty=run)


def test_a_file_of_prompts_is_the_same_wherever_it_is_named_from(tmp_path: Path) -> None:
    here, there = (
        fake_manifest(benchmark=name, methods=("base",), images=1, seeds=SEEDS)
        for name in ("faults.csv", "/home/me/faults.csv")
    )
    ours = scripted(tmp_path / "a", {1: [1.0]}, here)
    theirs = scripted(tmp_path / "p", {1: ease(3)}, there)
    assert summarise([ours], source=FakeBench(), difficulty=theirs).strata[0].level == "easy"
    assert len(summarise([ours, theirs], source=FakeBench()).rows) == 2
    other = scripted(tmp_path / "q", {1: ease(3)}, replace(there, data="other"))
    with pytest.raises(SettingsError, match="are not those of"):
        summarise([ours], source=FakeBench(), difficulty=other)


def test_plain_pictures_without_a_score_are_told_from_too_few_seeds(
    run: Path, tmp_path: Path
) -> None:
    plain = scripted(tmp_path / "p", {1: [1.0, 1.0, None, None], 2: [None] * 3})
    with pytest.raises(SettingsError, match=r"None of the 3 plain pictures .* has a score; cont"):
        summarise([run], source=FakeBench(), difficulty=plain)
    with Store(tmp_path / "begun").writing(PLAIN):
        pass
    with pytest.raises(SettingsError, match=r"No sample is finished yet in '.*begun'"):
        summarise([run], source=FakeBench(), difficulty=tmp_path / "begun")


def test_what_makes_the_difficulty_less_than_it_seems_is_said(run: Path, tmp_path: Path) -> None:
    made = replace(PLAIN, code="other", settings=replace(PLAIN.settings, judge="openai:x"))
    plain = scripted(tmp_path / "p", dict.fromkeys(EASE, ease(3)), made)
    theirs = fake_manifest(methods=("theirs",), images=0)
    scripted(tmp_path / "theirs", {1: [1.0]}, theirs)
    warnings = summarise([run, tmp_path / "theirs"], source=FakeBench(), difficulty=plain).warnings
    for said in (
        "by another judge than the figures",
        "made with other code",
        "pictures of theirs were made els",
    ):
        assert sum(said in one for one in warnings) == 1, said
    alike = scripted(tmp_path / "q", dict.fromkeys(EASE, ease(3)))
    assert summarise([run], source=FakeBench(), difficulty=alike).warnings == ()


def test_a_further_judges_report_has_its_difficulty_too(run: Path, tmp_path: Path) -> None:
    ours = scripted(tmp_path / "a", {1: [1.0]})
    plain = scripted(tmp_path / "p", {1: ease(0)})
    own = scripted(
        tmp_path / "q", {1: ease(5)}, replace(PLAIN, settings=replace(PLAIN.settings, judge="b"))
    )
    for folder in (ours, plain):
        store = Store(folder)
        records = store.records()
        with store.writing() as writer:
            writer.add_scores(
                "b",
                {(r.key.sample, r.key.repeat, r.picture()): Score(1.0) for r in records},
            )
    for folder in (plain, own):
        report = summarise([ours], source=FakeBench(), difficulty=folder, judge="b")
        assert [stratum.level for stratum in report.strata] == ["easy"]
        assert report.warnings == ()
    assert summarise([ours], source=FakeBench(), difficulty=plain).strata[0].level == "hard"
    unjudged = scripted(tmp_path / "u", {1: ease(0)})
    with pytest.raises(SettingsError, match="has scored nothing in"):
        summarise([ours], source=FakeBench(), difficulty=unjudged, judge="b")


def test_the_command_reports_by_difficulty_or_writes_nothing(
    run: Path, plain: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    command = ["bench", "report", str(run), "--out", str(out), "--difficulty"]
    refused = CliRunner().invoke(app, [*command, str(tmp_path / "nowhere")])
    assert refused.exit_code == 2
    assert "holds no run" in refused.output
    assert not out.exists()
    done = CliRunner().invoke(app, [*command, str(plain)])
    assert done.exit_code == 0, done.output
    assert "hard, " in done.output
    assert "## Difficulty: easy" in (out / "report.md").read_text()


def test_what_a_run_is_called_steers_no_terminal(run: Path, plain: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "\x1b[31m[bold]plain"
    copytree(plain, hostile)
    asked = [
        "bench",
        "report",
        str(run),
        "--difficulty",
        str(hostile),
        "--out",
        str(tmp_path / "r"),
    ]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    assert "[31m[bold]plain has no scored" in " ".join(shown.output.split())
    assert "\x1b" not in shown.output


@pytest.mark.skipif(not installed(), reason="Chromium or its driver is not installed.")
def test_the_page_shows_the_prompts_of_one_difficulty(report: Report, tmp_path: Path) -> None:
    assert report.difficulty
    name = "a-folder-whose-name-has-no-place-to-break-" + 100 * "x"
    files.write(replace(report, difficulty=replace(report.difficulty, run=name)), tmp_path)
    with chromium() as browser:
        show(browser, 390, 900)
        browser.get((tmp_path / "report.html").as_uri())
        count = browser.execute_script(
            "for (const box of document.querySelectorAll('details')) box.open = true;"
            "const s = document.getElementById('difficulty'); s.value = 'hard';"
            "s.dispatchEvent(new Event('input'));"
            "return [document.getElementById('count').textContent, innerWidth,"
            " document.documentElement.scrollWidth];"
        )
    assert count == [f"{2 * len(report.strata[0].prompts)} of 24", 390, 390]
