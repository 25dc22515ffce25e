"""The roles over any model, but for the verifier: what is asked, and what the answers mean.

Whatever comes from a user, a picture or another model is quoted between tags and is never an order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from PIL.Image import Image

from npcorrect.errors import PromptError, VLMError
from npcorrect.proposing import arrange, clean
from npcorrect.records import Candidate, Caption, Check, Checklist, Requirement, Source, Verdict
from npcorrect.vlm.base import VLM, Question
from npcorrect.vlm.questions import ask
from npcorrect.vlm.questions import question as _question
from npcorrect.vlm.questions import quoted as _quoted
from npcorrect.vlm.roles import Checklister
from npcorrect.vlm.schemas import (
    MAX_CLAIMS,
    MAX_PHRASES,
    CaptionReply,
    ChecklistReply,
    ProposalReply,
    Schema,
    parsed,
)


class VLMChecklister:
    """Takes any prompt apart by asking a model."""

    def __init__(self, vlm: VLM) -> None:
        self._vlm = vlm

    def checklist(self, prompt: str) -> Checklist:
        """The claims that the model finds, each dependent on the things that it is about.

        Raises:
            PromptError: the model finds nothing to check.
            VLMError: no usable answer.
        """
        question = _question("checklister", _quoted("prompt", prompt), schema=ChecklistReply)
        claims = _object(self._vlm, question, ChecklistReply).claims[:MAX_CLAIMS]
        if not claims:
            raise PromptError(
                f"The checklister {self._vlm.name} finds nothing in the prompt {prompt!r} that a "
                "picture could show; describe a picture."
            )
        drafts = [
            Requirement("", c.kind, c.text, c.subject.lower(), c.value, c.object.lower())
            for c in claims
        ]
        return Checklist(prompt, linked(drafts))


class FirstUnderstood:
    """Asks each checklister in turn until one understands the prompt."""

    def __init__(self, *checklisters: Checklister) -> None:
        self._checklisters = checklisters

    def checklist(self, prompt: str) -> Checklist:
        """The first checklist; the last checklister's refusal is final."""
        *others, last = self._checklisters
        for checklister in others:
            try:
                return checklister.checklist(prompt)
            except PromptError:
                continue
        return last.checklist(prompt)


class VLMCaptioner:
    """Describes a picture; it never learns the prompt."""

    def __init__(self, vlm: VLM) -> None:
        self._vlm = vlm

    def caption(self, image: Image) -> Caption:
        """What is visible.

        Raises:
            VLMError: no usable answer.
        """
        question = _question("captioner", "Describe the picture.", image, schema=CaptionReply)
        reply = _object(self._vlm, question, CaptionReply)
        return Caption(reply.text, tuple(reply.phrases[:MAX_PHRASES]))


class VLMProposer:
    """Asks a model for negatives and keeps those that may be one.

    The model's words pass the same rules as all others, and are joined as those of
    :class:`~npcorrect.proposing.RuleProposer` are.
    """

    def __init__(self, vlm: VLM) -> None:
        self._vlm = vlm

    def propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, limit: int
    ) -> tuple[Candidate, ...]:
        """At most ``limit`` different candidates.

        Raises:
            VLMError: no usable answer, or none that may be a negative.
        """
        failed = [check for check in verdict.checks if check.passed is False]
        text = "\n".join(
            (
                _quoted("prompt", checklist.prompt),
                *(_quoted("failed", _fault(check)) for check in failed),
                _quoted("description", caption.text),
                f"Give at most {limit} of each kind.",
            )
        )
        reply = _object(self._vlm, _question("proposer", text, schema=ProposalReply), ProposalReply)
        faults = _candidates(reply.faults, checklist, "targeted")
        extras = _candidates(reply.extras, checklist, "untargeted")
        if not (faults or extras):
            raise VLMError(
                f"The proposer {self._vlm.name} named nothing that may be a negative prompt.",
                reply.model_dump_json(),
            )
        return arrange(checklist, caption, faults, extras)[: max(limit, 0)]


def linked(claims: Iterable[Requirement]) -> tuple[Requirement, ...]:
    """The claims, numbered, each dependent on the claims that its subject and object are there.

    Where a claim is about a thing that no claim says is there, such a claim is added.
    """
    claims = tuple(claims)
    drafts = [c for c in claims if c.kind == "object"]
    others = [c for c in claims if c.kind != "object"]
    present = {c.subject for c in drafts}
    for claim in others:
        for noun in (claim.subject, claim.object):
            if (
                noun
                and noun not in present
                and claim.kind not in ("scene", "style", "text", "only")
            ):
                present.add(noun)
                text = f"at least one {noun} is visible"
                drafts.append(Requirement("", "object", text, noun, noun))
    names = {c.subject: f"r{n}" for n, c in reversed(list(enumerate(drafts, 1)))}
    numbered = []
    for number, claim in enumerate((*drafts, *others), 1):
        needs = dict.fromkeys(names[n] for n in (claim.subject, claim.object) if n in names)
        depends = () if claim.kind == "object" else tuple(needs)
        numbered.append(replace(claim, id=f"r{number}", depends_on=depends))
    return tuple(numbered)


def _fault(check: Check) -> str:
    seen = f"; seen instead: {check.observed}" if check.observed else ""
    return f"{check.requirement.text}{seen}"


def _candidates(
    phrases: Sequence[str], checklist: Checklist, source: Source
) -> tuple[Candidate, ...]:
    texts = dict.fromkeys(clean(phrase, checklist) for phrase in phrases[:MAX_PHRASES])
    return tuple(Candidate(text, source, "named by the proposer") for text in texts if text)


def _object(vlm: VLM, question: Question, schema: type[Schema]) -> Schema:
    """The reply as an object.

    Raises:
        VLMError: there is none.
    """
    (reply,) = ask(vlm, [question])
    if reply.error:
        raise VLMError(reply.error, reply.text)
    try:
        return parsed(schema, reply.text)
    except ValueError as error:
        reason = f"The model {vlm.name} gave no usable answer: {error}."
        raise VLMError(reason, reply.text) from None
