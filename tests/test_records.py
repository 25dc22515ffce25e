"""What the records say of themselves."""

from __future__ import annotations

import pytest
from PIL import Image

from npcorrect.records import Drawing, Generation, Receipt

DRAWING = Drawing(
    prompt="three red cups", seed=0, negative_prompt="four cups", num_inference_steps=6,
    true_cfg_scale=3.0, negative_scale=1.0, rule="extra", window=(0, 6), height=16, width=16,
)  # fmt: skip


@pytest.mark.parametrize(
    ("receipt", "steering", "rewinds", "acted"),
    [
        (Receipt(6, 0, 6), (), 0, ("four cups",)),
        (Receipt(6, 0, 6), ((3, "a cat"),), 0, ("four cups", "a cat")),
        (Receipt(3, 3, 6), ((3, "a cat"),), 0, ("a cat",)),
        (Receipt(), ((0, None),), 0, ()),
        (Receipt(), ((0, None), (0, None)), 1, ()),
        (Receipt(8, 1, 6), ((0, "a cat"),), 1, ("four cups", "a cat")),
        (None, (), 0, ("four cups",)),
    ],
)
def test_the_negatives_of_a_picture_are_those_that_acted(
    receipt: Receipt | None,
    steering: tuple[tuple[int, str | None], ...],
    rewinds: int,
    acted: tuple[str, ...],
) -> None:
    drawn = Generation(
        image=Image.new("RGB", (16, 16)), drawing=DRAWING, evaluations=1, seconds=0.0,
        receipt=receipt, steering=steering, rewinds=rewinds,
    )  # fmt: skip
    assert drawn.negatives == acted
