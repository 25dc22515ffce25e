"""Devices: whether they are there, and when their memory runs out."""

from __future__ import annotations

import gc

import torch

from npcorrect.errors import ModelError

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


def require_device(device: str) -> None:
    """Refuse a device that torch cannot use here.

    Raises:
        ModelError: it is unknown or not there.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"The device {device!r} cannot be used ({reason}); try cpu.") from None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; CPU and MPS have no class of their own for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


def release() -> None:
    """Give freed memory back to the device, so that the next try can have it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
