"""A vision-language model around another one."""

from __future__ import annotations

from collections.abc import Sequence

from npcorrect.vlm.base import VLM, Question, Reply
from npcorrect.vlm.capabilities import Capabilities


class VLMWrapper:
    """Asks as the other model does; a subclass changes one thing."""

    def __init__(self, vlm: VLM) -> None:
        self._vlm = vlm

    @property
    def name(self) -> str:
        """The other model's name, so that records do not tell the two apart."""
        return self._vlm.name

    @property
    def remote(self) -> bool:
        """Whether the other is a server's; see :attr:`npcorrect.vlm.base.VLM.remote`."""
        return self._vlm.remote

    @property
    def together(self) -> bool:
        """What the other says of itself; see :attr:`npcorrect.vlm.base.VLM.together`."""
        return self._vlm.together

    @property
    def capabilities(self) -> Capabilities | None:
        """The other's capabilities; None before it is connected, or if it has none."""
        return getattr(self._vlm, "capabilities", None)

    def connect(self) -> None:
        """Connect the other; see :meth:`npcorrect.vlm.base.VLM.connect`.

        Raises:
            InputError: nothing can be asked.
            BudgetError: the budget does not allow finding out.
        """
        self._vlm.connect()

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """The other's replies, in order; see :meth:`npcorrect.vlm.base.VLM.ask`.

        Raises:
            InputError: nothing was ever answered, and nothing can be.
        """
        return self._vlm.ask(questions)
