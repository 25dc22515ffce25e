"""Benchmarks of yes-or-no questions: how answers count, and their official files and results."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks import official
from npcorrect.evaluation.benchmarks.base import Judged, Sample, Score
from npcorrect.evaluation.benchmarks.dpg import DPGBench
from npcorrect.evaluation.benchmarks.dsg import DSG1k
from npcorrect.evaluation.benchmarks.geneval import GenEval
from npcorrect.evaluation.benchmarks.oneig import OneIGAlignment
from npcorrect.evaluation.benchmarks.questions import Asked, answered, share_right, yes_or_no
from npcorrect.evaluation.benchmarks.tiif import TIIFNegation, TIIFNegationMini
from npcorrect.vlm.fake import FakeVLM
from tests.evaluation.official_data import needs

PICTURE = Image.new("RGB", (8, 8))
CHAIN = (
    Asked(1, "Is there a cube?", kind="entity - whole"),
    Asked(2, "Is the cube purple?", parents=(1,), kind="attribute - color"),
    Asked(3, "Does its purple shine?", parents=(2,), kind="attribute - color"),
    Asked(4, "Is there a dog?", "no"),
)
"""Questions that depend on each other, and one that does not."""


@pytest.mark.parametrize(
    ("answers", "alone", "cascading"),
    [
        (("yes", "yes", "yes", "no"), 1.0, 1.0),
        (("yes", "no", "yes", "no"), 0.5, 0.5),
        (("no", "yes", "yes", "no"), 0.5, 0.25),
        (("no", "no", "no", "yes"), 0.0, 0.0),
    ],
)
def test_a_question_is_wrong_where_one_that_it_depends_on_is(
    answers: tuple[str, ...], alone: float, cascading: float
) -> None:
    """In the third case the second question is answered rightly, but counts as wrong."""
    assert answered(CHAIN, answers).value == alone
    assert answered(CHAIN, answers, cascading=True).value == cascading


def test_the_parts_are_the_answers_themselves() -> None:
    score = answered(CHAIN, ("no", "yes", "yes", "no"))
    assert [value for _, value in score.parts] == [0, 1, 1, 1]
    assert score.parts[1][0] == "attribute - color: Is the cube purple?"
    assert score.reason == "Is there a cube? yes; Is the cube purple? yes"


def test_every_question_is_asked_alone() -> None:
    vlm = FakeVLM(["yes", "yes", "no", "no"])
    sample = Sample(1, "t", "p", 0, facts={"questions": CHAIN})
    score = share_right(sample, vlm.ask(yes_or_no(sample, PICTURE)))
    assert score.value == 0.75
    assert [q.messages[0].text for q in vlm.asked] == [one.text for one in CHAIN]
    assert all(q.choices == ("yes", "no") for q in vlm.asked)


GRAPH = """item_id,text,proposition_id,dependency,tuple,question_natural_language
whoops_5,A purple cube,1,0,entity - whole (cube),Is there a cube?
whoops_5,A purple cube,2,1,"attribute - color (cube, purple)",Is the cube purple?
vrd_7,"dog, on mat",1,0,entity - whole (dog),Is there a dog?
vrd_7,"dog, on mat",2,"1, mat","relation - spatial (dog, mat, on)",Is the dog on the mat?
"""


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose file of two items stands for the official ones."""
    path = tmp_path / "graph.csv"
    path.write_text(GRAPH)
    monkeypatch.setattr(official, "locate", lambda file, folder=None: path)
    return path


def test_items_are_read_with_their_dependencies(graph: Path) -> None:
    """An item with a dependency that is no number has none, as upstream has it."""
    cube, dog = DSG1k().samples()
    assert (cube.tag, cube.prompt, dog.tag) == ("defying", "A purple cube", "relation")
    assert [one.parents for one in cube.facts["questions"]] == [(0,), (1,)]
    assert [one.parents for one in dog.facts["questions"]] == [(), ()]
    claims = DSG1k().checklist(cube).requirements
    assert claims[1].depends_on == ("r1",)
    assert claims[0].depends_on == ()


def test_answers_of_dsg_are_written_and_read_back(graph: Path, tmp_path: Path) -> None:
    bench = DSG1k()
    cube, dog = bench.samples()
    score = answered(cube.facts["questions"], ("no", "yes"))
    bench.write_results([cube, dog], {(1, 0): score, (2, 0): Score(None)}, {}, tmp_path)
    rows = list(csv.DictReader((tmp_path / "answers.csv").read_text().splitlines()))
    assert [(r["item_id"], r["question_id"], r["answer"]) for r in rows] == [
        ("whoops_5", "1", "no"), ("whoops_5", "2", "yes")
    ]  # fmt: skip
    assert bench.read_results(tmp_path / "answers.csv") == {(1, 0): score}
    several = (tmp_path / "answers.csv").read_text().replace(",npc,", ",other,", 1)
    (tmp_path / "answers.csv").write_text(several)
    with pytest.raises(SettingsError, match="2 image models"):
        bench.read_results(tmp_path / "answers.csv")


def test_an_item_without_a_picture_is_wrong_in_dsgs_figure() -> None:
    some = [Judged(1, "t", (Score(0.5),)), Judged(2, "t", (Score(None, missing=True),))]
    assert DSG1k().figures(some)[0].value == 0.25


def test_dpg_reads_its_results_by_the_quarters_of_a_grid(graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.txt"
    path.write_text(
        "images/whoops_5.png, 1.0, 0.5, 1.0, 0.5, 0.75\nimages/other.png, 1.0, 1.0\nModel: x\n"
    )
    scores = DPGBench().read_results(path)
    assert {place: score.value for place, score in scores.items()} == {
        (1, 0): 1.0, (1, 1): 0.5, (1, 2): 1.0, (1, 3): 0.5
    }  # fmt: skip
    path.write_text("images/whoops_5.png, 7, 7\n")
    with pytest.raises(SettingsError, match="7 is not from 0 to 1"):
        DPGBench().read_results(path)


def test_dpgs_figures_are_the_mean_and_the_broad_categories() -> None:
    score = answered(CHAIN[:3], ("no", "yes", "yes"), cascading=True)
    mean, *broad = DPGBench().figures([Judged(1, "t", (score, score))])
    assert (mean.name, mean.value) == ("DPG-Bench score", 0.0)
    assert {one.name: (one.value, one.n) for one in broad} == {
        "entity": (0.0, 2), "attribute": (1.0, 4)
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["global", "global -", "global - -", "global-style"])
def test_dpgs_broad_category_is_what_stands_before_the_first_hyphen(kind: str) -> None:
    """A kind without one is a category of its own, however the question is spelt."""
    asked = [
        replace(CHAIN[0], text=text, kind=kind) for text in ("Is it old?", "Is it - well: so?")
    ]
    score = answered([replace(one, id=n) for n, one in enumerate(asked)], ("yes", "no"))
    _, *broad = DPGBench().figures([Judged(1, "t", (score,))])
    assert [(one.name, one.value, one.n) for one in broad] == [("global", 0.5, 2)]


LATER = (
    Asked(1, "Does it shine?", parents=(2,)),
    Asked(2, "Is it purple?", parents=(3,)),
    Asked(3, "Is there a cube?"),
)
"""Questions that stand before those that they depend on."""


def test_a_question_falls_only_with_what_has_fallen_before_it() -> None:
    """Upstream goes through the graph once, in its file's order."""
    score = answered(LATER, ("yes", "yes", "no"), cascading=True)
    assert score.value == pytest.approx(1 / 3)


def test_dpgs_table_is_read_by_the_columns_that_its_script_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dpg_bench.csv"
    columns = (
        "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
        "question_natural_language\n"
    )
    rows = (
        "0,A cube,,1,0,entity,whole,entity - whole (cube),Is there a cube?\n"
        '0,A cube,,2,1,global,,"global - (cube, old)",Is it old?\n'
        "256,A dog,,1,0,entity,whole,entity - whole (dog),Is there a dog?\n"
    )
    path.write_text(columns + rows)
    monkeypatch.setattr(official, "locate", lambda file, folder=None: path)
    cube, dog = DPGBench().samples()
    assert [one.kind for one in cube.facts["questions"]] == ["entity - whole", "global -"]
    assert DPGBench().picture_names(dog)[0] == "256.png"


def test_oneigs_official_files() -> None:
    bench = OneIGAlignment(needs("oneig/OneIG-Bench.csv"))
    samples = bench.samples()
    assert len(samples) == 695
    assert {sample.tag for sample in samples} == {"anime", "human", "object"}
    assert all(sample.facts["questions"] for sample in samples)
    assert bench.picture_names(samples[0])[0] == "anime/{method}/000.webp"


def test_oneigs_scores_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample(1, "anime", "p", 0, facts={"item": "000"})
    monkeypatch.setattr(OneIGAlignment, "samples", lambda self: (sample,))
    path = tmp_path / "scores.csv"
    path.write_text(",npc\nanime_000,0.75\nhuman_001,\n")
    assert OneIGAlignment().read_results(path) == {(1, 0): Score(0.75)}
    path.write_text(",npc,base\nanime_000,0.75,0.5\n")
    with pytest.raises(SettingsError, match="2 image models"):
        OneIGAlignment().read_results(path)


@pytest.mark.parametrize(("bench", "lines"), [(TIIFNegation, 235), (TIIFNegationMini, 24)])
def test_tiifs_official_files(bench: type[TIIFNegation], lines: int) -> None:
    one = bench(needs("tiif/test/negation_prompts.jsonl"))
    samples = one.samples()
    assert len(samples) == 2 * lines
    assert one.picture_names(samples[0])[0] == "negation/{method}/short_description/0.png"
    answers = {asked.answer for sample in samples for asked in sample.facts["questions"]}
    assert answers == {"yes", "no"}


def test_tiifs_figure_is_the_share_of_questions_in_each_type() -> None:
    """A type's questions count alike, whichever prompt they are of."""
    parts = [(("q", 1.0), ("q", 0.0), ("q", 0.0)), (("q", 1.0),), (("q", 1.0), ("q", 0.0))]
    tags = ("negation, short", "negation, short", "negation, long")
    judged = [
        Judged(n, tag, (Score(0.5, parts=some),))
        for n, (tag, some) in enumerate(zip(tags, parts, strict=True), 1)
    ]
    whole, short, long = TIIFNegation().figures(judged)
    assert (whole.value, short.value, long.value) == (0.5, 0.5, 0.5)
    assert (short.n, long.n) == (4, 2)


def test_tiifs_results_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"kind": "negation", "length": "long", "line": 3, "questions": CHAIN}
    sample = Sample(1, "negation, long", "p", 0, facts=about)
    monkeypatch.setattr(TIIFNegation, "samples", lambda self: (sample,))
    row = {"attribute": "negation", "desc": "long_description", "line_idx": 3}
    folder = tmp_path / "model" / "negation" / "long"
    folder.mkdir(parents=True)
    (folder / "3.json").write_text(json.dumps(row | {"model_pred": ["yes", "yes", "no", "no"]}))
    (score,) = TIIFNegation().read_results(tmp_path).values()
    assert score.value == 0.75
    (folder / "3.json").write_text(json.dumps(row | {"model_pred": ["yes"]}))
    with pytest.raises(SettingsError, match=r"3\.json"):
        TIIFNegation().read_results(tmp_path)
    with pytest.raises(SettingsError, match="no result"):
        TIIFNegation().read_results(tmp_path / "none")


FACTS = {
    "tag": "position",
    "include": [
        {"class": "vase", "count": 1},
        {"class": "couch", "count": 1, "position": ["below", 0]},
    ],
    "prompt": "a photo of a couch below a vase",
}
COUCH = Sample(545, "position", FACTS["prompt"], 0, facts=FACTS)  # type: ignore[arg-type]


def test_genevals_official_file() -> None:
    samples = GenEval(needs("geneval/evaluation_metadata.jsonl")).samples()
    assert len(samples) == 553
    assert len({sample.tag for sample in samples}) == 6


def test_genevals_layout_and_results(tmp_path: Path) -> None:
    bench = GenEval()
    second = replace(COUCH, repeat=1)
    assert bench.picture_names(second) == ("00544/samples/00001.png", "00544/samples/0001.png")
    (tmp_path / "00544").mkdir()
    bench.write_results([second], {}, {(545, 1): tmp_path}, tmp_path)
    assert json.loads((tmp_path / "00544" / "metadata.jsonl").read_text()) == FACTS
    path = tmp_path / "results.jsonl"
    row = {"filename": "x/00544/samples/0001.png", "correct": True, "reason": ""}
    path.write_text(json.dumps(row) + "\n")
    assert bench.read_results(path) == {(545, 1): Score(1.0)}
    path.write_text(json.dumps(row | {"filename": "grid.png"}) + "\n")
    with pytest.raises(SettingsError, match=r"grid\.png"):
        bench.read_results(path)


def test_genevals_judge_is_upstreams_unless_a_model_is_named() -> None:
    (score,) = GenEval().judge(None).scores([(COUCH, PICTURE)])
    assert score.value is None
    assert score.deferred
    assert not score.open, "asking again would not help"
    vlm = FakeVLM(['{"correct": 0, "reason": "above"}'])
    (score,) = GenEval().judge(vlm).scores([(COUCH, PICTURE)])
    assert score.value == 0
    assert "- at least 1 couch, below the vase" in vlm.asked[0].messages[-1].text
    claims = GenEval().checklist(COUCH).requirements
    assert [(c.kind, c.subject, c.object) for c in claims] == [
        ("object", "vase", ""), ("object", "couch", ""), ("relation", "couch", "vase")
    ]  # fmt: skip
