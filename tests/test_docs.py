"""The examples of the documentation run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import diffusers
import pytest

from tests.diffusion.tiny import build
from tests.vlm.loopback import loopback

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


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


@pytest.mark.parametrize("example", EXAMPLES[1:])
def test_the_embedded_model(
    example: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert capsys.readouterr().out.strip()
