"""The roles over any model, but for the verifier: what is asked, and what the answers mean.

Whatever comes from a user, a picture or another model is quoted between tags and is never an order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from PIL.Image import Image

from npcorrect.errors import PromptError, VLMError
from npcorrect.phrases import words
from npcorrect.proposing import arrange, clean, distinct, refusal
from npcorrect.records import Candidate, Caption, Check, Checklist, Requirement, Source, Verdict
from npcorrect.vlm.base import VLM, Question
from npcorrect.vlm.questions import ask
from npcorrect.vlm.questions import question as _question
from npcorrect.vlm.questions import quoted as _quoted
from npcorrect.vlm.roles import Checklister
from npcorrect.vlm.schemas import (
    MAX_CLAIMS,
    MAX_PHRASES,
    AskedReply,
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

    The model's words pass the same rules as all others. Where the rules refuse some, the model is
    asked once more, with the reasons. What is left is put to it in one question: which of these
    does the prompt itself ask for? Those are dropped, and the rest joined as those of
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
        lines = (
            _quoted("prompt", checklist.prompt),
            *(_quoted("failed", _fault(check)) for check in failed),
            _quoted("description", caption.text),
            f"Give at most {limit} of each kind.",
        )
        named, refused = self._named(lines, checklist)
        if refused:
            more, _ = self._named((*lines, *refused), checklist)
            named = distinct((*named, *more))
        kept = self._unasked(named, checklist)
        if not kept:
            raise VLMError(
                f"The proposer {self._vlm.name} named nothing that may be a negative prompt.",
                "\n".join((*refused, *(candidate.negative_prompt for candidate in named))),
            )
        faults = [candidate for candidate in kept if candidate.source == "targeted"]
        extras = [candidate for candidate in kept if candidate.source == "untargeted"]
        return arrange(checklist, caption, faults, extras)[: max(limit, 0)]

    def _named(
        self, lines: Sequence[str], checklist: Checklist
    ) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
        """The candidates that the model names, and what is refused of them, with the reasons."""
        question = _question("proposer", "\n".join(lines), schema=ProposalReply)
        reply = _object(self._vlm, question, ProposalReply)
        rows: tuple[tuple[Sequence[str], Source], ...] = (
            (reply.faults, "targeted"),
            (reply.extras, "untargeted"),
        )
        candidates: list[Candidate] = []
        refused: dict[str, None] = {}
        for phrases, source in rows:
            for phrase in phrases[:MAX_PHRASES]:
                text = clean(phrase, checklist)
                if text is None:
                    refused[f"{_quoted('refused', phrase)} {refusal(phrase, checklist)}"] = None
                else:
                    candidates.append(Candidate(text, source, "named by the proposer"))
        return distinct(candidates), tuple(refused)

    def _unasked(
        self, candidates: Sequence[Candidate], checklist: Checklist
    ) -> tuple[Candidate, ...]:
        """The candidates without those that the model, asked once for all, finds in the prompt."""
        if not candidates:
            return ()
        phrases = (_quoted("phrase", candidate.negative_prompt) for candidate in candidates)
        text = "\n".join((_quoted("prompt", checklist.prompt), *phrases))
        reply = _object(self._vlm, _question("asked", text, schema=AskedReply), AskedReply)
        asked = {" ".join(words(phrase)) for phrase in reply.asked}
        return tuple(c for c in candidates if " ".join(words(c.negative_prompt)) not in asked)


def linked(claims: Iterable[Requirement]) -> tuple[Requirement, ...]:
    """The claims, numbered, each dependent on the claims that its subject and object are there.

    Where a claim is about a thing that no claim says is there, such a claim is added, except where
    it says that there is none.
    """
    claims = tuple(claims)
    drafts = [c for c in claims if c.kind == "object"]
    others = [c for c in claims if c.kind != "object"]
    present = {c.subject for c in drafts}
    for claim in (c for c in others if (c.kind, c.value) != ("count", "0")):
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
