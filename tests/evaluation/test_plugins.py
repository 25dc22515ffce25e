"""What users bring of their own."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect.errors import SettingsError
from npcorrect.evaluation import benchmarks, methods, plugins
from npcorrect.evaluation.report.columns import source_of
from npcorrect.evaluation.run.fake import FakeBench, fake_tools
from npcorrect.evaluation.run.manifest import RunSettings, validate
from npcorrect.evaluation.run.tools import check_judge, judging
from npcorrect.evaluation.run.worker import Job, Worker
from npcorrect.vlm.settings import VLMTable

CODE = """
from npcorrect.evaluation.run.fake import FakeBench
VALUE = 7
def bench(folder):
    return FakeBench(prompts=5, name=str(folder))
def twice(task):
    from npcorrect.evaluation.methods.base import seeds
    yield from seeds(task)
class Judge:
    def __init__(self, source):
        self.name = source.name
    def scores(self, pictures):
        from npcorrect.evaluation.benchmarks.base import Score
        return [Score(0.25) for _ in pictures]
judge = Judge
def broken(folder):
    raise KeyError("x")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my.py"
    path.write_text(CODE)
    return path


def test_an_object_in_a_file_is_loaded_by_name(file: Path) -> None:
    assert plugins.load(f"{file}:VALUE", "npcorrect.methods") == 7
    assert plugins.label(f"{file}:VALUE") == "my.py:VALUE"
    assert plugins.label("npc") == "npc"
    assert plugins.load("npc", "npcorrect.methods") is None


def test_an_entry_point_is_loaded_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "npcorrect.evaluation.run.fake:PROMPTS", "npcorrect.methods")

    def points(group: str) -> list[EntryPoint]:
        return [point] if group == "npcorrect.methods" else []

    monkeypatch.setattr(plugins, "entry_points", points)
    assert plugins.load("mine", "npcorrect.methods") == 12
    assert plugins.load("mine", "npcorrect.judges") is None


@pytest.mark.parametrize(
    ("code", "name", "says"),
    [
        (None, "x", "is no file"),
        ("y = 1", "x", "has no 'x'"),
        ("import no_such_module", "x", "ModuleNotFoundError"),
        ("def (", "x", "SyntaxError"),
    ],
)
def test_what_cannot_be_loaded_is_a_sentence(
    code: Any, name: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "my.py"
    if code is not None:
        path.write_text(code)
    with pytest.raises(SettingsError, match=says):
        plugins.load(f"{path}:{name}", "npcorrect.methods")


def test_a_benchmark_of_the_users_own(file: Path) -> None:
    assert len(benchmarks.find(f"{file}:bench", Path("data")).samples()) == 5
    with pytest.raises(SettingsError, match="KeyError"):
        benchmarks.find(f"{file}:broken")


def test_a_method_of_the_users_own_is_a_record_under_its_short_name(file: Path) -> None:
    name = f"{file}:twice"
    done = Worker(fake_tools).perform(Job(name, FakeBench().samples()[0], 1))
    assert done.record.key.method == "my.py:twice"
    assert len(done.record.steps) >= 1
    with pytest.raises(SettingsError, match="is no method"):
        methods.find(f"{file}:VALUE")
    with pytest.raises(SettingsError, match="each once"):
        validate(RunSettings("mini", (name, f"elsewhere/{file.name}:twice")))


def test_a_judge_of_the_users_own_is_made_for_the_benchmark_and_asked_again(file: Path) -> None:
    source = FakeBench()
    settings = RunSettings("mini", ("base",), judge=f"{file}:judge", repeat_judge=3)
    check_judge(settings, source)
    with judging(settings, source, VLMTable()) as judge:
        (score,) = judge.scores([(source.samples()[0], Image.new("L", (8, 8)))])
    assert (score.value, score.again) == (0.25, (0.25, 0.25))


def test_code_that_a_run_names_is_not_loaded(file: Path) -> None:
    file.write_text("raise SystemExit('this ran')")
    with pytest.raises(SettingsError, match="--benchmark"):
        source_of(f"{file}:bench")
