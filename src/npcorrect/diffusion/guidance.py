"""Guidance as pure functions of the denoiser's outputs, all of one shape. Imports no torch.

``v_pos``, ``v_empty`` and ``v_neg`` are predictions under the prompt, the empty text (the
unconditional branch) and the negative prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def paper_rule(v_pos: Tensor, v_neg: Tensor, scale: float) -> Tensor:
    """``v_neg + scale (v_pos - v_neg)``: the negative in the unconditional branch's place.

    All are ``(B, ...)``, of one shape. arXiv 2512.07702; true classifier-free guidance as diffusers
    computes it.
    """
    return v_neg + scale * (v_pos - v_neg)


def extra_rule(v_pos: Tensor, v_empty: Tensor, v_neg: Tensor, scale: float, mu: float) -> Tensor:
    """``v_empty + scale (v_pos - v_empty) + mu (v_pos - v_neg)``: all ``(B, ...)``, of one shape.

    The negative is a direction beside the unconditional branch.
    """
    return paper_rule(v_pos, v_empty, scale) + mu * (v_pos - v_neg)


def dynamic_rule(
    v_pos: Tensor, v_empty: Tensor, v_neg: Tensor, scale: float, weight: Tensor
) -> Tensor:
    """``v_empty + scale (v_pos - v_empty) - weight (v_neg - v_empty)``: all ``(B, ...)``.

    The negative is taken from the unconditional distribution; arXiv 2410.14398. ``weight``,
    ``(B,)``, is each picture's own.
    """
    w = weight.view(-1, *[1] * (v_pos.ndim - 1)).to(v_pos.dtype)
    return paper_rule(v_pos, v_empty, scale) - w * (v_neg - v_empty)


def stand_in(target: Tensor, v_pos: Tensor, scale: float) -> Tensor:
    """The negative prediction ``(B, ...)`` from which :func:`paper_rule` arrives at ``target``.

    Solves ``u + scale (v_pos - u) = target``; ``scale`` must not be 1.
    """
    return (target - scale * v_pos) / (1 - scale)


def moved(changed: Tensor, plain: Tensor) -> Tensor:
    """``||changed - plain|| / ||plain||`` of each row, ``(B,)`` float32; both are ``(B, ...)``.

    Not finite where ``plain`` is zero.
    """
    difference, length = (x.float().flatten(1).norm(dim=1) for x in (changed - plain, plain))
    ratio: Tensor = difference / length
    return ratio


def rescaled(v: Tensor, v_pos: Tensor) -> Tensor:
    """``v`` with the norm of ``v_pos`` along the last axis, both ``(..., D)``.

    Qwen-Image and Lumina 2 guide so.
    """
    ratio: Tensor = v_pos.norm(dim=-1, keepdim=True) / v.norm(dim=-1, keepdim=True)
    return v * ratio


def nag_rule(
    z_pos: Tensor, z_neg: Tensor, scale: float, tau: float, alpha: float, norm: int = 1
) -> Tensor:
    """Normalized Attention Guidance of attention features ``(..., D)``; arXiv 2505.21179.

    Extrapolate ``z = z_pos + scale (z_pos - z_neg)``; where its norm exceeds ``tau`` times that of
    ``z_pos``, shrink it to that; blend ``alpha z + (1 - alpha) z_pos``. ``norm`` is 1 for L1, as in
    the paper and most of the reference, or 2 for L2, as in the reference's code for FLUX.1. The
    reference's ``nag_scale`` is ``scale + 1``.
    """
    z = z_pos + scale * (z_pos - z_neg)
    ratio = z.norm(p=norm, dim=-1, keepdim=True) / z_pos.norm(p=norm, dim=-1, keepdim=True)
    z = (z * (tau / ratio)).where(ratio > tau, z)
    blended: Tensor = alpha * z + (1 - alpha) * z_pos
    return blended
