"""Echo-4o's benchmarks beside upstream's own scripts, by what these wrote and printed.

``tests/data/echo4o_rows.json`` has the rows that upstream's unchanged scripts gave to one picture
of each prompt under :class:`ScriptedJudge`, with no faults and with faults in 30 % of the replies:
a digit for each prompt of GenEval++ (``-`` where it gave up, ``?`` where the judge's answer was
neither 0 nor 1), and Imagine-Bench's weighted scores. ``printed`` is the figure at their end.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from npcorrect.evaluation.benchmarks.base import Score
from npcorrect.evaluation.benchmarks.geneval_pp import GenEvalPP
from npcorrect.evaluation.benchmarks.imagine_bench import PARTS, UPSTREAM, ImagineBench
from npcorrect.vlm.fake import FakeVLM
from tests.evaluation.benchmarks.scripted_judge import ScriptedJudge
from tests.evaluation.judged import judged
from tests.evaluation.official_data import needs

ROWS = json.loads((Path(__file__).parents[2] / "data" / "echo4o_rows.json").read_text())
PICTURE = Image.new("RGB", (8, 8))
TRIES = 3


@pytest.mark.parametrize(("faults", "defined"), [("0.0", 280), ("0.3", 240)])
def test_geneval_pp_has_upstreams_rows_and_its_figure(faults: str, defined: int) -> None:
    """A row that is unscored is asked again, as upstream does, up to three times."""
    bench = GenEvalPP(needs("geneval_pp.jsonl"), wording="upstream")
    script = ScriptedJudge(float(faults))
    vlm = FakeVLM([lambda question: script.geneval_pp(question.messages[1].text)], repeat=True)
    judge, samples = bench.judge(vlm), bench.samples()
    ours: dict[int, Score] = {}
    for _ in range(TRIES):
        left = [s for s in samples if s.id not in ours or ours[s.id].value is None]
        scores = judge.scores([(sample, PICTURE) for sample in left])
        ours |= {sample.id: score for sample, score in zip(left, scores, strict=True)}
    theirs = dict(enumerate(ROWS[f"geneval++ {faults}"]["rows"], 1))
    both = [n for n in theirs if theirs[n] in "01" and ours[n].value is not None]
    assert len(both) >= defined
    assert {n: ours[n].value for n in both} == {n: float(theirs[n]) for n in both}
    assert all(ours[n].value is None for n in theirs if theirs[n] == "-")
    as_upstream = {n: [ours[n] if theirs[n] in "01" else Score(None)] for n in theirs}
    *_, printed = bench.figures(judged(samples, as_upstream))
    assert round(100 * (printed.value or 0), 2) == ROWS[f"geneval++ {faults}"]["printed"]


@pytest.mark.parametrize(("faults", "defined"), [("0.0", 270), ("0.3", 180)])
def test_imagine_has_upstreams_rows_and_its_figure(faults: str, defined: int) -> None:
    """Upstream asks once where it hears anything, and keeps -1 for what its pattern misses."""
    bench = ImagineBench(needs("imagine.jsonl"), wording="upstream")
    script = ScriptedJudge(float(faults))
    vlm = FakeVLM([lambda question: script.imagine(question.messages[1].text)], repeat=True)
    samples = bench.samples()
    scores = bench.judge(vlm).scores([(sample, PICTURE) for sample in samples])
    theirs = list(map(float, ROWS[f"imagine {faults}"]["rows"].split()))
    assert [dict(score.parts)[UPSTREAM] for score in scores] == theirs
    whole = [
        (score.value, row)
        for score, row in zip(scores, theirs, strict=True)
        if score.value is not None and row >= 0 and "**" not in score.raw
    ]
    assert len(whole) >= defined
    assert all(ours == row for ours, row in whole)
    assert all(
        dict(score.parts).keys() >= set(PARTS) for score in scores if score.value is not None
    )
    ours = {sample.id: [score] for sample, score in zip(samples, scores, strict=True)}
    *_, printed = bench.figures(judged(samples, ours))
    assert round(printed.value or 0, 3) == ROWS[f"imagine {faults}"]["printed"]
