"""What a plan needs to know of a model on a server. Imports no client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from npcorrect.plan import Defaults, RuleTraits
from npcorrect.vlm.addresses import Server, image_server, speaks_openai


class ServerRule:
    """The negative in the unconditional branch's place, in all steps, as servers have it."""

    renewable = False
    guided = True
    replaces = True
    attends = False
    delay = 0
    weighs = False

    def default_window(self, defaults: Defaults) -> float:
        """A share of 1: a server's negative acts in all steps."""
        return 1.0

    def default_guidance(self, defaults: Defaults) -> float:
        """The scale that servers have by default."""
        return defaults.true_cfg_scale

    def default_scale(self, defaults: Defaults) -> float:
        """The weight of other rules, which has no effect here."""
        return defaults.negative_scale


_RULES: Mapping[str, RuleTraits] = {"paper": ServerRule()}


def server_defaults(size: int, *, steps: bool = True, scale: bool = True) -> Defaults:
    """What is asked of a server where the request is silent.

    A server that takes no number of ``steps`` draws in its own, which count as one; where it takes
    no guidance ``scale`` the scale is 0, for one that is not known.
    """
    return Defaults(
        num_inference_steps=20 if steps else 1,
        true_cfg_scale=7.0 if scale else 0.0,
        negative_scale=1.0,
        rule="paper",
        window=1.0,
        looks=0,
        fresh_from=0,
        sizes=(size,),
        max_sequence_length=0,
        multiple=8,
    )


@dataclass(frozen=True, kw_only=True)
class ServerFamily:
    """A model on a server: one rule, no looks, no part of the steps; see :class:`FamilyTraits`."""

    title: str
    defaults: Defaults
    restarts: bool = True
    least_scale: float = 1.0
    rules: Mapping[str, RuleTraits] = field(default_factory=lambda: _RULES)
    distilled: str = ""
    windows: bool = False
    guides_always: bool = True

    def check_prompt(self, prompt: str) -> None:
        """Accept every prompt, so that nothing is raised."""

    def check_negative(self, negative: str) -> None:
        """Accept every standing negative, so that nothing is raised."""


def server_family(name: str) -> ServerFamily:
    """The family of a server before it was asked what it can.

    Raises:
        SettingsError: the name is not understood.
    """
    server = image_server(name)
    return ServerFamily(
        title=title(server), defaults=server_defaults(1024 if speaks_openai(server) else 512)
    )


def title(server: Server) -> str:
    """What messages call a server: its address, without key or model."""
    return f"the server at {server.address}"
