"""Progress where nobody watches a terminal: lines, in which open samples are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from npcorrect.evaluation.run import manifest, runner
from npcorrect.evaluation.run.fake import FakeBench, fake_manifest, fake_tools
from npcorrect.evaluation.run.progress import _live, following
from npcorrect.evaluation.run.store import Store


def test_methods_from_before_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for methods in (("base",), ("npc",)):
        made = fake_manifest(methods=methods)
        samples = manifest.samples(made.settings, FakeBench())
        with following(methods, len(samples), 3) as on_record:
            runner.run(Store(tmp_path), made, samples, fake_tools, runner.in_process, on_record)
    lines = capsys.readouterr().err.splitlines()
    assert lines[11].startswith("12 of 12: base ")
    assert lines[-1].startswith("12 of 12: npc ")
    opened = sum(bool(r.open_pictures) for r in Store(tmp_path).records() if r.key.method == "npc")
    assert (f"{opened} open" in lines[-1]) is (opened > 0)


def test_open_samples_are_counted_for_each_method() -> None:
    scores = {"base": [1.0, 0.0], "npc": [1.0], "static": [], "rewrite": []}
    said = _live(scores, {"base": 0, "npc": 3, "static": 2, "rewrite": 0})
    assert said == "base 0.5, npc 1 (3 open), static (2 open)"
