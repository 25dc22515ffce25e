"""Guidance as pure functions of the denoiser's outputs, all of one shape. Imports no torch.

``v_pos``, ``v_empty`` and ``v_neg`` are predictions under the prompt, the empty text and the
negative prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def rescaled(v: Tensor, v_pos: Tensor) -> Tensor:
    """``v`` with the norm of ``v_pos`` along the last axis, as Qwen-Image and Lumina 2 guide."""
    ratio: Tensor = v_pos.norm(dim=-1, keepdim=True) / v.norm(dim=-1, keepdim=True)
    return v * ratio


def nag_rule(z_pos: Tensor, z_neg: Tensor, scale: float, tau: float, alpha: float) -> Tensor:
    """Normalized Attention Guidance of attention features ``(..., D)``; arXiv 2505.21179.

    Extrapolate ``z = z_pos + scale (z_pos - z_neg)``; where its L1 norm exceeds ``tau`` times that
    of ``z_pos``, shrink it to that; blend ``alpha z + (1 - alpha) z_pos``.
    """
    z = z_pos + scale * (z_pos - z_neg)
    ratio = z.norm(p=1, dim=-1, keepdim=True) / z_pos.norm(p=1, dim=-1, keepdim=True)
    z = (z * (tau / ratio)).where(ratio > tau, z)
    blended: Tensor = alpha * z + (1 - alpha) * z_pos
    return blended
