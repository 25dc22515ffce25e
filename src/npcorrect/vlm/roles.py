"""The four things that a correction asks about a prompt and its pictures.

A role that gets no usable answer raises :class:`~npcorrect.errors.VLMError`; it never makes one up.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from PIL.Image import Image

from npcorrect.records import Candidate, Caption, Checklist, Verdict


class Checklister(Protocol):
    """Takes a prompt apart into claims that can be checked."""

    def checklist(self, prompt: str) -> Checklist:
        """All checkable claims of the prompt.

        Raises:
            PromptError: the prompt is not understood.
            VLMError: no usable answer.
        """
        ...


class Verifier(Protocol):
    """Says which claims hold in a picture."""

    def verify(self, image: Image, checklist: Checklist) -> Verdict:
        """One check per requirement, in the checklist's order.

        Where a claim fails, ``observed`` is the bare phrase of what is seen instead.

        Raises:
            VLMError: no usable answer.
        """
        ...


class BriefVerifier(Verifier, Protocol):
    """A verifier that is paid by the question, and need not ask all of them."""

    def verify_briefly(
        self,
        image: Image,
        checklist: Checklist,
        *,
        first: Collection[str] = (),
        observe: bool = True,
    ) -> Verdict:
        """The verdict up to the first round of questions in which a claim fails.

        The claims that ``first`` names by their ids are the first round. Those that are not asked
        any more are ``skipped``; a picture is accepted only where all were asked. Without
        ``observe`` nothing is said of what is seen instead.

        Raises:
            VLMError: no usable answer.
        """
        ...


def is_brief(verifier: Verifier) -> TypeGuard[BriefVerifier]:
    """Whether a verifier is paid by the question, also where it passes the calls on to another."""
    return hasattr(verifier, "verify_briefly")


class Captioner(Protocol):
    """Says what a picture shows. Never told the prompt, so it cannot repeat it."""

    def caption(self, image: Image) -> Caption:
        """What is visible, in positive words.

        Raises:
            VLMError: no usable answer.
        """
        ...


class Proposer(Protocol):
    """Turns what went wrong into negative prompts."""

    def propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, limit: int
    ) -> tuple[Candidate, ...]:
        """At most ``limit`` different candidates, in the proposer's own order of preference.

        Raises:
            VLMError: no usable answer.
        """
        ...


@dataclass(frozen=True)
class Roles:
    """Who does what in one correction; one object may play several roles.

    ``overlap`` says that the roles mostly wait for a server and may be called from several threads:
    pictures are then verified together, and while the next ones are drawn. ``turns`` says that
    their models share a card with the image model: all redrawings are then drawn before any of them
    is verified. Of the two at most one holds.
    """

    checklister: Checklister
    verifier: Verifier
    captioner: Captioner
    proposer: Proposer
    overlap: bool = False
    turns: bool = False
