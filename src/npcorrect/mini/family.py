"""The embedded model's row: what a plan needs to know of it. Imports no torch."""

from __future__ import annotations

from dataclasses import replace

from npcorrect.diffusion.families import FLUX_DEV
from npcorrect.errors import PromptError
from npcorrect.mini.grammar import VOCABULARY, parse
from npcorrect.mini.scene import GRID, IMAGE_SIZE
from npcorrect.phrases import words
from npcorrect.plan import Defaults

MAX_TOKENS = 20
"""Text tokens of a prompt, the end mark included; FLUX's ``max_sequence_length``."""


def check_prompt(prompt: str) -> None:
    """Refuse what the miniature model cannot draw.

    Raises:
        PromptError: the prompt is not of the miniature world, or asks for more than it can hold.
    """
    objects = sum(group.count or 1 for group in parse(prompt).groups)
    if objects > GRID**2:
        raise PromptError(
            f"The prompt {prompt[:100]!r} asks for {objects} objects and the miniature model's "
            f"pictures hold {GRID**2}; ask for fewer."
        )


def check_negative(negative: str) -> None:
    """Refuse what the miniature model has no words for.

    Raises:
        PromptError: a word is not of the miniature world.
    """
    unknown = [word for word in words(negative) if word not in VOCABULARY]
    if unknown:
        shown = ", ".join(map(repr, dict.fromkeys(unknown)))
        raise PromptError(
            f"The miniature model does not know {shown[:100]} of the negative prompt; name its "
            "shapes, colours and backgrounds, or draw with another model."
        )


DEFAULTS = Defaults(
    num_inference_steps=24,
    true_cfg_scale=3.5,
    negative_scale=3.0,
    rule="turns",
    window=1.0,
    looks=4,
    fresh_from=1,
    sizes=(IMAGE_SIZE,),
    max_sequence_length=MAX_TOKENS,
    strength=2 / 3,
    rewinds=3,
)
FAMILY = replace(
    FLUX_DEV,
    name="mini",
    title="the miniature model",
    defaults=DEFAULTS,
    arguments={},
    after="empty",
    check_prompt=check_prompt,
    check_negative=check_negative,
)
"""As FLUX.1 [dev], but not distilled from a guided model: it needs guidance throughout."""
