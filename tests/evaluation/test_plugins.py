"""What users bring of their own."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from npcorrect.errors import SettingsError
from npcorrect.evaluation import benchmarks, plugins
from npcorrect.evaluation.report.columns import source_of

CODE = """
from npcorrect.evaluation.run.fake import FakeBench
VALUE = 7
def bench(folder):
    return FakeBench(prompts=5, name=str(folder))
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


def test_code_that_a_run_names_is_not_loaded(file: Path) -> None:
    file.write_text("raise SystemExit('this ran')")
    with pytest.raises(SettingsError, match="--benchmark"):
        source_of(f"{file}:bench")
