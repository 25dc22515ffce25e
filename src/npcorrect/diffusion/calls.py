"""The arguments of a denoiser's call, as rows: one for each picture and branch.

Pipelines lay guidance out in three ways: a call for each branch, or one call whose tensors, or
lists, hold the rows of both branches. Everything else is the same for all of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Arguments = dict[str, Any]
"""Arguments of one denoiser call, by name."""
Rows = slice | list[int]


@dataclass(frozen=True)
class Calls:
    """How a pipeline calls its denoiser under guidance.

    ``order`` says whether the branches come in calls of their own, the positive one first, or
    together in one call, and then which half is the positive one. ``state`` names the arguments of
    the noisy latents and of the time. ``shared`` names those that have no row for each picture.
    """

    order: Literal["separate", "negative first", "positive first"]
    state: tuple[str, str] = ("hidden_states", "timestep")
    shared: tuple[str, ...] = ()

    def bind(
        self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Arguments:
        """All arguments by name."""
        if not args:
            return dict(kwargs)
        names = [name for name in inspect.signature(forward).parameters if name != "self"]
        return dict(zip(names, args, strict=False)) | dict(kwargs)

    def rows(self, arguments: Mapping[str, Any], places: Rows, batch: int) -> Arguments:
        """The rows at ``places`` of arguments that have ``batch`` of them."""
        return {
            name: value if name in self.shared else _rows(value, places, batch)
            for name, value in arguments.items()
        }

    def join(self, first: Arguments, second: Arguments) -> Arguments:
        """Two sets of rows as one."""
        return {
            name: value if name in self.shared else _join(value, second[name])
            for name, value in first.items()
        }

    def split(self, arguments: Arguments, batch: int) -> tuple[Arguments, Arguments]:
        """The positive and the second branch of one call that holds both."""
        first = self.rows(arguments, slice(0, batch), 2 * batch)
        second = self.rows(arguments, slice(batch, 2 * batch), 2 * batch)
        return (first, second) if self.order == "positive first" else (second, first)

    def ordered(self, positive: Any, second: Any) -> tuple[Any, Any]:
        """Both branches in the order of the call."""
        return (positive, second) if self.order == "positive first" else (second, positive)

    def condition(self, arguments: Arguments) -> Arguments:
        """What a text decides: everything but the state."""
        return {name: value for name, value in arguments.items() if name not in self.state}


def _rows(value: Any, places: Rows, batch: int) -> Any:
    if _is_tensor(value):
        return value[places] if value.ndim and len(value) == batch else value
    if isinstance(value, list) and len(value) == batch:
        return value[places] if isinstance(places, slice) else [value[place] for place in places]
    if isinstance(value, dict):
        return {name: _rows(inner, places, batch) for name, inner in value.items()}
    return value


def _join(first: Any, second: Any) -> Any:
    if _is_tensor(first):
        import torch

        return torch.cat([first, second]) if first.ndim else first
    if isinstance(first, list):
        return first + second
    if isinstance(first, dict):
        return {name: _join(inner, second[name]) for name, inner in first.items()}
    return first


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "ndim")
