"""The methods: a file and a row each; what one is says :mod:`npcorrect.evaluation.methods.base`."""

from __future__ import annotations

from collections.abc import Mapping

from npcorrect.errors import SettingsError
from npcorrect.evaluation import plugins
from npcorrect.evaluation.methods import (
    best_of_n,
    npc,
    npc_no_negatives,
    npc_oracle,
    npc_paper,
    plain,
    rewrite,
    static,
)
from npcorrect.evaluation.methods.base import Method

METHODS: Mapping[str, Method] = {
    "base": Method("The first picture, whatever it shows.", plain.attempts),
    "best-of-n": Method("New seeds until the verifier accepts a picture.", best_of_n.attempts),
    "npc": Method("The correction loop with this program's defaults.", npc.attempts),
    "npc-no-negatives": Method(
        "The correction loop with no negative in any redrawing: a control.",
        npc_no_negatives.attempts,
        npc_no_negatives.freshly,
    ),
    "npc-oracle": Method(
        "The paper's loop in its benchmark setting: the verifier sees the benchmark's checklist.",
        npc_oracle.attempts,
        npc_paper.released,
    ),
    "npc-paper": Method(
        "The paper's loop as released: five ranked candidates, each in the first 3 of 50 steps, "
        "same seed.",
        npc_paper.attempts,
        npc_paper.released,
    ),
    "rewrite": Method(
        "New seeds of the prompt as a language model expands it, in positive words.",
        rewrite.attempts,
    ),
    "static": Method(
        "New seeds, each with the negative prompt that everyone pastes.",
        static.attempts,
        static.pasted,
    ),
}


def find(name: str) -> Method:
    """The method with this name, in this Python file, or of an installed package.

    One of the user's own is a :class:`Method`, or a function that takes a task and yields attempts.

    Raises:
        SettingsError: there is none.
    """
    if name in METHODS:
        return METHODS[name]
    made = plugins.load(name, "npcorrect.methods")
    if made is None:
        raise SettingsError(
            f"The method {name!r} is unknown; the methods are {', '.join(METHODS)}."
        )
    if not callable(made) and not isinstance(made, Method):
        raise SettingsError(f"{name!r} is no method; give a function of a task.")
    return made if isinstance(made, Method) else Method("Not one of this program's methods.", made)
