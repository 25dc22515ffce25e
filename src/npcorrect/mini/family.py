"""The embedded model's row: what a plan needs to know of it. Imports no torch."""

from __future__ import annotations

from dataclasses import replace

from npcorrect.diffusion.families import FLUX_DEV
from npcorrect.errors import PromptError
from npcorrect.mini.grammar import nearest, parse
from npcorrect.mini.language import MAX_TOKENS, VOCABULARY
from npcorrect.mini.scene import IMAGE_SIZE
from npcorrect.mini.spelling import words_of


def check_prompt(prompt: str) -> None:
    """Refuse what the embedded model cannot draw.

    Raises:
        PromptError: the prompt is not of the embedded world, or asks for more than it can hold.
    """
    parse(prompt)


def check_negative(negative: str) -> None:
    """Refuse what the embedded model has no words for.

    Raises:
        PromptError: a word is not of the embedded world, or there are too many.
    """
    known = words_of(negative)
    unknown = [word for word in dict.fromkeys(known) if word not in VOCABULARY]
    if unknown:
        shown = ", ".join(map(repr, unknown))
        raise PromptError(
            f"The embedded model does not know {shown[:100]} of the negative prompt; "
            f"{nearest(unknown[0])}. Name its things, colours, sizes and places, or draw with "
            "another model."
        )
    if len(known) >= MAX_TOKENS:
        raise PromptError(
            f"The negative prompt {negative[:100]!r} says {len(known)} things and the embedded "
            f"model reads at most {MAX_TOKENS - 1}; leave some out."
        )


GUIDANCE = 2.5
"""The embedded guidance scale at which pictures are drawn."""
DEFAULTS = replace(
    FLUX_DEV.defaults,
    num_inference_steps=12,
    true_cfg_scale=3.0,
    paper_window=1 / 3,
    paper_scale=8.0,
    strength=10 / 12,
    fresh_from=2,
    seeds_suffice=frozenset({"object", "count"}),
    sizes=(IMAGE_SIZE,),
    multiple=0,
    max_sequence_length=MAX_TOKENS,
)
"""What did best on the prompts for tuning (docs/results.md): redrawings begin with the original
noised to the third step, the negative acts strongly in it and the next, so that one takes as many
evaluations as a plain picture, and the first of them keeps its seed. Where only numbers are wrong,
new seeds without the negative do better afterwards.
"""
FAMILY = replace(
    FLUX_DEV,
    name="mini",
    title="the embedded model",
    defaults=DEFAULTS,
    checkpoints=(),
    arguments={"guidance_scale": GUIDANCE},
    check_prompt=check_prompt,
    check_negative=check_negative,
)
"""As FLUX.1 [dev]: distilled from a guided model, so that a picture needs one evaluation a step."""
