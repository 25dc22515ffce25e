"""Guidance rules: pure functions of the denoiser's outputs, all of one shape.

``v_pos``, ``v_empty`` and ``v_neg`` are predictions under the prompt, the empty text and the
negative prompt.
"""

from __future__ import annotations

from torch import Tensor


def paper_rule(v_pos: Tensor, v_neg: Tensor, scale: float) -> Tensor:
    """``v_neg + scale (v_pos - v_neg)``: the negative in the empty branch's place.

    arXiv 2512.07702; true classifier-free guidance as diffusers computes it.
    """
    return v_neg + scale * (v_pos - v_neg)


def extra_rule(v_pos: Tensor, v_empty: Tensor, v_neg: Tensor, scale: float, mu: float) -> Tensor:
    """``v_empty + scale (v_pos - v_empty) + mu (v_pos - v_neg)``: a direction beside the empty."""
    return paper_rule(v_pos, v_empty, scale) + mu * (v_pos - v_neg)


def stand_in(target: Tensor, v_pos: Tensor, scale: float) -> Tensor:
    """The negative prediction from which :func:`paper_rule` arrives at ``target``.

    Solves ``u + scale (v_pos - u) = target``; ``scale`` must not be 1.
    """
    return (target - scale * v_pos) / (1 - scale)
