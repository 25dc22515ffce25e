"""The examples of the documentation run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import diffusers
import pytest

from tests.diffusion.tiny import build, build_modular
from tests.vlm.loopback import loopback

ROOT = Path(__file__).parents[1]


def examples(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


EXAMPLES = examples("docs/python.md")
EMBEDDED = [*EXAMPLES[2:], *examples("README.md"), *examples("docs/attend.md")]


def test_a_pipeline_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind = diffusers.StableDiffusionXLPipeline
    monkeypatch.setattr(kind, "from_pretrained", lambda name: build("sdxl"))
    monkeypatch.setattr("PIL.Image.Image.show", lambda picture: None)
    with loopback() as server:
        code = re.sub(r"http://localhost\S*?(?=\")", server.name, EXAMPLES[0])
        names: dict[str, object] = {}
        exec(code.replace("steps=30", "steps=2, size=64"), names)
    assert (tmp_path / "out" / "result.json").is_file()
    assert server.asked


def test_a_guider_in_a_modular_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    modular = build_modular()
    monkeypatch.setattr(modular, "load_components", lambda: None)
    monkeypatch.setattr(diffusers.ModularPipeline, "from_pretrained", lambda name: modular)
    names: dict[str, Any] = {}
    exec(EXAMPLES[1].replace("1024", "64").replace("steps=50", "steps=4"), names)
    assert names["picture"].size == (64, 64)
    assert modular.guider.negative


@pytest.mark.parametrize("example", EMBEDDED)
def test_the_embedded_model(
    example: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert capsys.readouterr().out.strip()
