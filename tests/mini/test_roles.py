"""The embedded roles say what is seen, whoever does the seeing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from npcorrect.errors import ModelError, PromptError, VLMError
from npcorrect.mini.checklist import MiniChecklister
from npcorrect.mini.roles import embedded_roles
from npcorrect.mini.scene import Scene, Thing
from npcorrect.mini.verifier import CellReader
from npcorrect.mini.viewer import MiniViewer

PICTURE = Image.new("RGB", (192, 192))


class KnownScene:
    """Sees one given scene in every picture, and counts how often it looks."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.looks = 0

    def read(self, pixels: Tensor) -> list[tuple[Scene, float]]:
        self.looks += 1
        return [(self.scene, 0.9)] * len(pixels)


def observed(prompt: str, *things: Thing) -> dict[str, str]:
    """What is seen in place of each claim that fails."""
    verifier = MiniViewer(KnownScene(Scene(things)))
    verdict = verifier.verify(PICTURE, MiniChecklister().checklist(prompt))
    assert all(check.confidence == 0.9 for check in verdict.checks)
    return {c.requirement.text: c.observed for c in verdict.checks if not c.passed}


def thing(
    kind: str, color: str = "red", row: int = 0, column: int = 0, size: str = "medium"
) -> Thing:
    return Thing(row, column, kind, color, size)


@pytest.mark.parametrize(
    ("prompt", "things", "faults"),
    [
        ("a blue banana", [thing("banana", "blue")], {}),
        ("a blue banana", [thing("banana", "yellow")], {"all bananas are blue": "yellow bananas"}),
        (
            "two cups",
            [thing("cup", column=c) for c in range(3)],
            {"exactly two cups": "three cups"},
        ),
        ("a small cup", [thing("cup", size="large")], {"all cups are small": "large cups"}),
        (
            "a cat to the left of a dog",
            [thing("cat", column=2), thing("dog")],
            {"every cat is to the left of every dog": "cat to the right of dog"},
        ),
        (
            "a cat on the left",
            [thing("cat", column=2)],
            {"every cat is in the left half of the picture": "one cat on the right"},
        ),
        (
            "a red cat",
            [thing("dog")],
            {"at least one cat is visible": "", "exactly one cat": "", "all cats are red": ""},
        ),
    ],
)
def test_a_fault_is_named_by_what_is_seen(
    prompt: str, things: list[Thing], faults: dict[str, str]
) -> None:
    assert observed(prompt, *things) == faults


def test_the_caption_counts_and_colours_everything() -> None:
    scene = Scene((thing("cup"), thing("cup", column=1), thing("fork", "gray", 2)))
    caption = MiniViewer(KnownScene(scene)).caption(PICTURE)
    assert caption.text == "two red cups and one gray fork"
    assert caption.phrases == ("two red cups", "one gray fork")


def test_each_picture_is_looked_at_once() -> None:
    scenes = KnownScene(Scene((thing("cup"),)))
    verifier = MiniViewer(scenes)
    verifier.verify(PICTURE, MiniChecklister().checklist("a cup"))
    verifier.caption(PICTURE.copy())
    assert scenes.looks == 1
    verifier.caption(Image.new("RGB", (192, 192), "white"))
    assert scenes.looks == 2


def test_other_sizes_prompts_and_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VLMError, match="192 x 192"):
        MiniViewer(KnownScene(Scene(()))).caption(Image.new("RGB", (64, 64)))
    with pytest.raises(PromptError, match="unicorn"):
        MiniChecklister().checklist("a unicorn")
    with pytest.raises(ModelError, match="missing"):
        embedded_roles(tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "verifier.safetensors")
    with pytest.raises(ModelError, match="corrupt"):
        embedded_roles(tmp_path)


def test_the_network_reads_nine_cells() -> None:
    torch.manual_seed(0)
    (scene, certainty), _ = CellReader(8).read(torch.rand(2, 3, 192, 192) * 2 - 1)
    assert 0 < certainty < 1
    assert all(t.row in range(3) and t.column in range(3) for t in scene.things)
