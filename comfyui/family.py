"""What a plan needs to know of a model of ComfyUI. Imports no torch.

A MODEL tells no family by which npcorrect has defaults, so all of them share one row. The embedded
model carries a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from npcorrect.diffusion.families import any_text
from npcorrect.diffusion.rules import RULES, Rule
from npcorrect.mini.family import FAMILY
from npcorrect.plan import Defaults

if TYPE_CHECKING:
    from torch import Tensor

Afterwards = Literal["unconditional", "alone"]
"""What a step outside of the negative's window computes beside the prompt's branch: the
unconditional one, or nothing."""
Noise = Callable[["Tensor", int, int], "Tensor"]
"""Noise of the shape of a latent, for a seed and the number of restarts so far."""
ATTACHMENT = "npcorrect"
"""The name under which a MODEL carries its :class:`Row`."""


def guided_rules(rules: Mapping[str, type[Rule]] = RULES) -> Mapping[str, type[Rule]]:
    """The rules that act on predictions alone; other ones are not written for ComfyUI.

    Those act within attention, or learn from the noise levels of a schedule.
    """
    return {name: rule for name, rule in rules.items() if not (rule.attends or rule.learns)}


def fresh_noise(like: Tensor, seed: int, turn: int) -> Tensor:
    """The noise of a restart in the latent's own layout."""
    from npcorrect.diffusion import restart

    return restart.fresh_noise(like, [seed], turn)


def packed_noise(like: Tensor, seed: int, turn: int) -> Tensor:
    """The noise of a restart as diffusers' FLUX has it, whose latents are packed 2 x 2.

    With it, the same seed gives the same picture in both.
    """
    channels, height, width = like.shape[1:]
    packed = like.new_empty(1, height // 2 * (width // 2), 4 * channels)
    tokens = fresh_noise(packed, seed, turn)
    cells = tokens.view(1, height // 2, width // 2, channels, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(1, channels, height, width)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A family of models as ComfyUI runs it; see :class:`npcorrect.plan.FamilyTraits`.

    ``empty`` is the unconditional branch's text, ``noise`` that of restarts. ``miniature`` says
    that the embedded roles can read its pictures.
    """

    name: str
    title: str
    defaults: Defaults
    rules: Mapping[str, type[Rule]] = field(default_factory=guided_rules)
    distilled: str = ""
    restarts: bool = True
    windows: bool = True
    least_scale: float = 1.0
    afterwards: Afterwards = "unconditional"
    empty: str = ""
    noise: Noise = fresh_noise
    miniature: bool = False
    check_prompt: Callable[[str], None] = any_text
    check_negative: Callable[[str], None] = any_text

    @property
    def guides_always(self) -> bool:
        """Whether plain pictures are drawn under guidance too."""
        return self.afterwards == "unconditional"


ANY = Row(
    name="a model of ComfyUI",
    title="this model",
    defaults=Defaults(
        num_inference_steps=20,
        true_cfg_scale=5.0,
        negative_scale=1.0,
        rule="paper",
        window=1.0,
        looks=0,
        fresh_from=0,
        sizes=(1024,),
        max_sequence_length=10_000,
        multiple=1,
    ),
)
MINIATURE = Row(
    name=FAMILY.name,
    title=FAMILY.title,
    defaults=FAMILY.defaults,
    rules=guided_rules(FAMILY.rules),
    restarts=FAMILY.restarts,
    least_scale=FAMILY.least_scale,
    afterwards="alone" if FAMILY.after == "alone" else "unconditional",
    empty=FAMILY.empty or "",
    noise=packed_noise,
    miniature=True,
    check_prompt=FAMILY.check_prompt,
    check_negative=FAMILY.check_negative,
)
