"""The report in all its forms, and its page in a real browser."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean

import pytest
from markdown_it import MarkdownIt
from PIL import Image
from rich.console import Console
from selenium.webdriver import Chrome

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import Sample, Score
from npcorrect.evaluation.benchmarks.judge import RepeatedJudge
from npcorrect.evaluation.report import files, metrics, page, tables, text
from npcorrect.evaluation.report.cautions import same_model
from npcorrect.evaluation.report.summary import Report, summarise
from npcorrect.evaluation.run import exchange, manifest, runner
from npcorrect.evaluation.run.fake import FakeBench, FakeJudge, fake_manifest, fake_tools
from npcorrect.evaluation.run.manifest import Manifest
from npcorrect.evaluation.run.store import Store
from npcorrect.settings import RoleSettings
from tests.serve.browser import chromium, installed, show
from tests.timing import until


def carry_out(folder: Path, made: Manifest | None = None) -> None:
    made = made or fake_manifest(seeds=2)
    samples = manifest.samples(made.settings, FakeBench())
    runner.run(Store(folder), made, samples, fake_tools, runner.in_process, lambda record: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "fake"
    carry_out(folder)
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> Report:
    return summarise([run], source=FakeBench())


@pytest.fixture(scope="module")
def written(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    files.write(report, folder)
    return folder


def test_the_original_is_the_same_for_all_that_draw_it_plainly(report: Report) -> None:
    base, best, _, npc = report.rows
    assert base.images[0].score == best.images[0].score == npc.images[0].score
    assert base.final.cost.images == 1
    assert all(
        a.cost.images <= b.cost.images for a, b in zip(npc.images, npc.images[1:], strict=False)
    )


def test_every_method_but_base_is_followed_to_the_end_of_the_budget(report: Report) -> None:
    assert report.plain == 8
    assert report.rows[1].evaluations[-1].limit == 8 * 4
    for column in report.columns[1:]:
        for record in column.records:
            last = record.steps[-1]
            assert last.accepted or last.cost.evaluations >= record.budget


def test_figures_agree_in_all_forms(report: Report, written: Path) -> None:
    figures = json.loads((written / "report.json").read_text())
    rows = list(csv.DictReader((written / "report.csv").read_text().splitlines()))
    text = (written / "report.md").read_text()
    for row, method in zip(report.rows, figures["methods"], strict=True):
        mine = [r for r in rows if r["method"] == row.label]
        scored = [float(r["score"]) for r in mine if r["score"]]
        score = row.final.score
        assert score is not None
        assert len(mine) == row.samples == 24
        assert len(scored) == score.n
        assert sum(scored) / len(scored) == pytest.approx(score.mean)
        assert method["images"][-1]["score"]["mean"] == score.mean
        assert f"{100 * score.mean:.1f} %" in text
    assert row.unscored == sum(r["score"] == "" for r in mine)


def test_one_image_is_said_in_the_singular(report: Report) -> None:
    assert (replace(report, images=1).most, replace(report, images=4).most) == (
        "1 image", "4 images",
    )  # fmt: skip


def test_what_corrections_keep_is_the_same_in_all_forms(
    report: Report, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = json.loads((written / "report.json").read_text())
    rows = list(csv.DictReader((written / "report.csv").read_text().splitlines()))
    lines = list(csv.DictReader((written / "summary.csv").read_text().splitlines()))
    scores = {(r["method"], r["sample"], r["repeat"]): r["score"] for r in rows}
    texts = [(written / name).read_text() for name in ("report.md", "report.html")]
    files.show(report, Console())
    shown = " ".join(capsys.readouterr().out.split())
    assert "base, kept" not in shown
    for row, line, method in zip(report.rows, lines, figures["methods"], strict=True):
        mine = [r for r in rows if r["method"] == row.label and r["score"] == "1"]
        shares = [float(r["kept"]) for r in mine if scores["base", r["sample"], r["repeat"]] == "0"]
        if row.kept is None or row.kept_most is None:
            assert not shares
            assert line["kept"] == line["kept, n"] == line["right and kept"] == ""
            continue
        mean, most = fmean(shares), fmean(share >= metrics.KEEPS for share in shares)
        assert (row.kept.n, row.kept_most.n) == (len(shares), len(shares))
        assert (row.kept.mean, row.kept_most.mean) == pytest.approx((mean, most))
        assert method["kept"]["mean"] == row.kept.mean
        assert float(line["kept"]) == pytest.approx(mean, abs=1e-6)
        assert (float(line["right and kept"]), int(line["kept, n"])) == (most, len(shares))
        cells = [text.kept(row.kept), text.kept(row.kept_most), str(row.kept.n)]
        assert f"| {' | '.join(cells)} |" in texts[0]
        assert "".join(f"<td>{cell}</td>" for cell in cells) in texts[1]
        assert f"{row.label}, kept: {cells[0]}, right and kept (at least 90 %): {cells[1]}" in shown
    assert [row.kept is None for row in report.rows] == [True, False, False, False]
    assert all("at least 90 %" in one for one in (*texts, shown))


def test_a_report_needs_no_official_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a benchmark whose samples could not be read."""
    monkeypatch.setenv("NPC_DATA", str(tmp_path / "empty"))
    samples = [Sample(n, tag, "a cat", 0) for n, tag in ((1, "a"), (2, "a"), (3, "b"))]
    scores = {(1, 0): Score(1.0), (2, 0): Score(0.0), (3, 0): Score(None, missing=True)}
    made = fake_manifest(benchmark="geneval++", methods=("theirs",), images=0)
    exchange.keep_scores(Store(tmp_path / "run"), made, samples, scores, {}, lambda record: None)
    report = summarise([tmp_path / "run"])
    files.write(report, tmp_path / "report")
    (row,) = report.rows
    assert [(figure.value, figure.n) for figure in row.official] == [(0.25, 3), (0.5, 2)]
    assert (row.samples, row.unscored, row.missing) == (3, 1, 1)
    assert row.tags["b"].unscored == 1


def test_the_reference_method_can_be_chosen(run: Path) -> None:
    report = summarise([run], source=FakeBench(), against="base")
    assert {versus.first for versus in report.versus} == {"base"}
    assert {line.second for line in report.lines} == {"best-of-n", "npc-paper", "npc"}
    main = [line.comparison for line in report.lines if line.main and line.unit == "images"]
    assert [one.holm for one in main] == metrics.holm([one.p for one in main])
    assert all(one.first.n == one.second.n == one.difference.n for one in main)
    with pytest.raises(SettingsError, match="best-of-n"):
        summarise([run], source=FakeBench(), against="nobody")


def test_a_judge_that_was_asked_again_is_compared_with_itself(tmp_path: Path) -> None:
    class Wavering(FakeJudge):
        def __init__(self) -> None:
            self.asked = 0

        def _score(self, image: Image.Image) -> Score:
            self.asked += 1
            return Score(float(self.asked % 3 == 0))

    made = fake_manifest(limit=4, methods=("base",))
    judge = RepeatedJudge([FakeJudge(), Wavering()])
    samples = manifest.samples(made.settings, FakeBench())
    tools = replace(fake_tools(), judge=judge)
    store = Store(tmp_path)
    runner.run(store, made, samples, lambda: tools, runner.in_process, lambda record: None)
    (row,) = summarise([tmp_path], source=FakeBench()).repeatabilities
    values = [record.score() for record in store.records()]
    scored = [score for score in values if score.value is not None]
    assert row.n == len(scored)
    assert row.same == sum(score.again == (score.value,) for score in scored) / len(scored)


def test_parts_of_scores_are_in_the_csv(tmp_path: Path) -> None:
    """Those that all have are columns; every part has a line of its own."""
    parts = (("fantasy", 8.0), ("identity", 9.0)), (("fantasy", 3.0), ("other", 1.0))
    samples = [Sample(n, "a", "p", 0) for n in (1, 2)]
    scores = {(n, 0): Score(5.0, parts=some) for n, some in enumerate(parts, 1)}
    made = fake_manifest(methods=("theirs",), images=0)
    exchange.keep_scores(Store(tmp_path / "run"), made, samples, scores, {}, lambda record: None)
    report = summarise([tmp_path / "run"], source=FakeBench())
    rows = list(csv.DictReader(tables.samples(report).splitlines()))
    assert [row["fantasy"] for row in rows] == ["8", "3"]
    assert "identity" not in rows[0]
    lines = list(csv.DictReader(tables.parts(report).splitlines()))
    assert [(line["part"], line["value"]) for line in lines] == [
        ("fantasy", "8"), ("identity", "9"), ("fantasy", "3"), ("other", "1")
    ]  # fmt: skip


def test_the_summary_is_there_for_a_spreadsheet_and_for_a_paper(
    report: Report, written: Path
) -> None:
    rows = list(csv.DictReader((written / "summary.csv").read_text().splitlines()))
    for row, line in zip(report.rows, rows, strict=True):
        figure = row.official[0]
        assert float(line["mean of tags"]) == pytest.approx(figure.value, abs=1e-6)
        assert int(line["mean of tags, n"]) == figure.n
    text = (written / "summary.tex").read_text()
    assert text.count("\\\\") == 1 + len(report.rows)
    assert tables._escaped("a_b & 5 % ~\\") == r"a\_b \& 5 \% \textasciitilde{}\textbackslash{}"


def test_the_markdown_has_whole_tables(written: Path) -> None:
    text = (written / "report.md").read_text()
    tables = [
        part.strip().splitlines() for part in text.split("\n\n") if part.strip().startswith("|")
    ]
    assert len(tables) == 3 + 3 + 1
    for table in tables:
        assert len(table) > 2
        assert set(table[1]) == {"|", "-"}
        assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize(
    "name",
    ["a|b", "`a` **b** _c_", "<img src=x>", "[a](http://b) ~~c~~", "a\n| b\\|", "&lt; # $x$"],
)
def test_the_markdown_shows_names_as_they_are(name: str, report: Report) -> None:
    rows = tuple(replace(row, label=f"{name} {row.label}") for row in report.rows)
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(
        page.markdown(replace(report, rows=rows))
    )
    cells = [unescape(cell) for cell in re.findall("<t[dh]>(.*?)</t[dh]>", shown)]
    for row in report.rows:
        assert cells.count(f"{' '.join(name.split())} {row.label}") >= 4


def test_the_csv_says_what_was_handed_over(run: Path, written: Path) -> None:
    rows = list(csv.DictReader((written / "report.csv").read_text().splitlines()))
    assert all(Store(run).picture(row["picture"]).is_file() for row in rows)
    assert {row["prompt"] for row in rows} == {s.prompt for s in FakeBench().samples()}
    assert any(row["negatives"] for row in rows if row["method"] == "npc")


def test_the_csv_says_what_it_took_in_numbers(written: Path) -> None:
    rows = list(csv.DictReader((written / "report.csv").read_text().splitlines()))
    for row in rows:
        assert int(row["images"]) >= 1
        assert [int(row[name]) for name in ("calls", "input_tokens", "output_tokens")] == [0, 0, 0]
        assert float(row["vlm_seconds"]) == 0 <= float(row["seconds"])
        assert row["money"] == ""


def test_the_same_run_gives_the_same_files(report: Report, written: Path) -> None:
    folder = written.parent / "again"
    files.write(report, folder)
    for name in written.iterdir():
        assert (folder / name.name).read_bytes() == name.read_bytes()


class _Loads(HTMLParser):
    """Everything that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [v for k, v in attrs if k in ("src", "href", "srcset") and v]


def test_the_page_loads_nothing(written: Path) -> None:
    page = (written / "report.html").read_text()
    loads = _Loads()
    loads.feed(page)
    assert all(one.startswith(("data:", "#")) for one in loads.found)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "prompt 0 <b>" not in page, "prompts are data"


def test_runs_with_methods_of_the_same_name_are_told_apart(run: Path, tmp_path: Path) -> None:
    carry_out(tmp_path / "other", fake_manifest(methods=("npc", "static"), images=2))
    both = summarise([run, tmp_path / "other"], source=FakeBench())
    assert [row.label for row in both.rows] == [
        "base", "best-of-n", "npc-paper", "fake/npc", "other/npc", "static",
    ]  # fmt: skip
    assert both.images == 2
    assert {versus.first for versus in both.versus} == {"fake/npc"}


def test_runs_in_folders_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    made = fake_manifest(methods=("npc",), limit=2)
    folders = [tmp_path / name / "run" for name in "ab"]
    for folder in folders:
        carry_out(folder, made)
    both = summarise(folders, source=FakeBench())
    assert [row.label for row in both.rows] == [f"{folder}/npc" for folder in folders]
    assert len(both.manifests) == 2


def test_runs_of_different_benchmarks_are_not_reported_together(run: Path, tmp_path: Path) -> None:
    carry_out(tmp_path / "other", replace(fake_manifest(), data="others"))
    with pytest.raises(SettingsError, match="different prompts"):
        summarise([run, tmp_path / "other"], source=FakeBench())


def test_a_run_with_nothing_finished_is_not_reported(tmp_path: Path) -> None:
    with Store(tmp_path).writing(fake_manifest()):
        pass
    with pytest.raises(SettingsError, match="No sample is finished"):
        summarise([tmp_path], source=FakeBench())


@pytest.mark.parametrize(
    ("verifier", "judge", "same"),
    [
        ("openai:gpt-4.1", "openai:gpt-4.1", True),
        ("openai:gpt-4.1", "openai:gpt-4.1-2025-04-14", True),
        ("openai:gpt-4.1-mini", "openai:gpt-4.1", False),
        (None, None, False),
        (None, "openai:gpt-4.1", False),
    ],
)
def test_a_judge_that_is_the_verifier_is_found_out(
    verifier: str | None, judge: str | None, same: bool, tmp_path: Path
) -> None:
    assert same_model(verifier, judge) is same
    carry_out(
        tmp_path / "run",
        fake_manifest(roles=RoleSettings(vlm=verifier), judge=judge, limit=2, methods=("base",)),
    )
    report = summarise([tmp_path / "run"], source=FakeBench())
    files.write(report, tmp_path)
    assert any("the judge is the verifier" in warning for warning in report.warnings) is same
    page = (tmp_path / "report.html").read_text()
    assert ('<p class="warning" role="alert">In run, the judge is the verifier' in page) is same


OPENED = """
  for (const box of document.querySelectorAll(".card details")) box.open = true;
  return new Promise(done => setTimeout(() => {
    const all = [...document.querySelectorAll(".attempts img")];
    for (const image of all) image.loading = "eager";
    Promise.all(all.map(image => image.decode().catch(() => 0))).then(() => done({
      drawn: all.length,
      loaded: all.filter(image => image.naturalWidth).length,
      verdicts: [...document.querySelectorAll(".attempts figure")].map(f => [
        f.className.split(" ")[0], getComputedStyle(f.querySelector("img")).borderColor,
      ]),
    }));
  }, 100));
"""
"""Opens all details of the cards; tells of their attempts, and in which frames they are."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as browser:
        yield browser


@pytest.mark.skipif(not installed(), reason="Chromium or its driver is not installed.")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_works_in_a_browser(
    browser: Chrome, width: int, report: Report, written: Path
) -> None:
    show(browser, width, 900)
    ask = browser.execute_script
    browser.get("about:blank")
    browser.get(f"{(written / 'report.html').as_uri()}#all/3")
    wide = "return [innerWidth, document.documentElement.scrollWidth]"
    assert ask(wide) == [width, width], "the page scrolls sideways"
    count = "return document.getElementById('count').textContent"
    click = "document.querySelector(`[data-filter=${arguments[0]}]`).click();" + count
    counts = {n: ask(click, n) for n in ("fixed", "broken", "wrong", "unscored", "all")}
    versus = next(v for v in report.versus if v.second == "base")
    wrong = report.rows[3].final.score
    assert wrong is not None
    assert counts["all"] == "24 of 24"
    assert counts["fixed"] == f"{versus.images[-1][1].first_better} of 24"
    assert counts["broken"] == f"{versus.images[-1][1].second_better} of 24"
    assert counts["wrong"] == f"{round(wrong.n * (1 - wrong.mean))} of 24"
    shown = "return [...document.images].filter(i => i.complete && i.naturalWidth).length"
    until(lambda: ask(shown) >= 20)

    search = "const s = document.getElementById('search'); s.value = 'PROMPT 3';"
    ask(search + "s.dispatchEvent(new Event('input'))")
    cards = ask("return document.querySelectorAll('.card h3').length")
    assert cards == 2, "one prompt, two seeds"
    opened = ask(OPENED)
    assert opened["loaded"] == opened["drawn"] > 4, "they are loaded from the run's folder"
    frames = {(kind, colour) for kind, colour in opened["verdicts"]}
    assert len(frames) == len({kind for kind, _ in frames}) >= 2, "a frame for each verdict"
    ask("document.querySelector('.attempts img').click()")
    assert ask("return document.getElementById('large').open")
    assert ask(wide) == [width, width]
