"""The four roles over any model: what is asked, and what the answers mean.

Whatever comes from a user, a picture or another model is quoted between tags and is never an order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import TypeVar

from PIL.Image import Image
from pydantic import BaseModel, ValidationError

from npcorrect.errors import BudgetError, PromptError, SettingsError, VLMError
from npcorrect.phrases import words
from npcorrect.proposing import arrange, clean, distinct, refusal
from npcorrect.records import Candidate, Caption, Check, Checklist, Requirement, Source, Verdict
from npcorrect.vlm.base import VLM, Message, Question, Reply, Usage
from npcorrect.vlm.roles import Checklister
from npcorrect.vlm.schemas import (
    MAX_CLAIMS,
    MAX_PHRASES,
    AskedReply,
    CaptionReply,
    ChecklistReply,
    ProposalReply,
    observed_schema,
)
from npcorrect.vlm.usage import charge

ANSWERS = ("yes", "no")
MAX_VOTES = 15
VOTING_TEMPERATURE = 0.7
Schema = TypeVar("Schema", bound=BaseModel)


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


class VLMVerifier:
    """Checks each claim with a question of its own, all of them at once.

    Claims that depend on others are asked once these hold; where one of them fails they are moot
    and fail unasked. With ``votes`` above 1 each claim is asked so often, with other seeds and some
    temperature, and the majority counts. One more question finds what is seen in place of the
    failed claims.
    """

    def __init__(self, vlm: VLM, votes: int = 1) -> None:
        check_votes(votes)
        self._vlm, self._votes = vlm, votes

    def verify(self, image: Image, checklist: Checklist) -> Verdict:
        """One check per requirement, in order; those without a usable answer are unscored.

        Raises:
            VLMError: no question got a usable answer.
        """
        checks: dict[str, Check] = {}
        errors: list[str] = []
        waiting = list(checklist.requirements)
        while ready := [c for c in waiting if checks.keys() >= set(c.depends_on)]:
            asked = [c for c in ready if all(checks[d].passed for d in c.depends_on)]
            checks |= {c.id: _moot(c, checks) for c in ready if c not in asked}
            checks |= self._check(image, asked, errors)
            waiting = [c for c in waiting if c.id not in checks]
        if checks and all(check.passed is None for check in checks.values()):
            raise VLMError(errors[0], next(iter(checks.values())).raw)
        observed = self._observe(image, checks, errors)
        verdict = tuple(
            replace(checks[c.id], observed=observed.get(c.id, "")) for c in checklist.requirements
        )
        return Verdict(verdict, "; ".join(dict.fromkeys(errors)))

    def _check(
        self, image: Image, claims: Sequence[Requirement], errors: list[str]
    ) -> dict[str, Check]:
        questions = [
            _question(
                "verifier",
                f"Is this true of the picture? {_quoted('claim', claim.text)}",
                image,
                choices=ANSWERS,
                temperature=VOTING_TEMPERATURE if self._votes > 1 else 0.0,
                seed=vote,
            )
            for claim in claims
            for vote in range(self._votes)
        ]
        replies = _ask(self._vlm, questions)
        errors += [reply.error for reply in replies if reply.error]
        votes = (replies[i : i + self._votes] for i in range(0, len(replies), self._votes))
        return {claim.id: _counted(claim, own) for claim, own in zip(claims, votes, strict=True)}

    def _observe(self, image: Image, checks: dict[str, Check], errors: list[str]) -> dict[str, str]:
        """What is seen in place of the claims that failed and are not moot."""
        failed = [
            check.requirement
            for check in checks.values()
            if check.passed is False and all(checks[d].passed for d in check.requirement.depends_on)
        ]
        if not failed:
            return {}
        text = "\n".join(f"{claim.id}: {_quoted('claim', claim.text)}" for claim in failed)
        question = _question("observer", text, image)
        schema = observed_schema(tuple(claim.id for claim in failed))
        (reply,) = _ask(self._vlm, [replace(question, schema=schema)])
        if reply.error:
            errors.append(reply.error)
            return {}
        return {name: str(phrase).lower() for name, phrase in json.loads(reply.text).items()}


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


def check_votes(votes: int) -> None:
    """Refuse a number of votes that makes no sense.

    Raises:
        SettingsError: it is not from 1 to :data:`MAX_VOTES`.
    """
    if not 1 <= votes <= MAX_VOTES:
        raise SettingsError(f"The votes are {votes}; choose a number from 1 to {MAX_VOTES}.")


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


def _counted(claim: Requirement, votes: Sequence[Reply]) -> Check:
    """The check that the votes make; unscored where none counts, or where they are split."""
    valid = [vote for vote in votes if not vote.error]
    raw = next((vote.text for vote in votes if vote.error), "")
    if not valid:
        return Check(claim, None, raw=raw)
    ayes = sum(vote.text == "yes" for vote in valid)
    probability = None
    if len(valid) > 1 or valid[0].probabilities:
        likely = (v.probabilities.get("yes", float(v.text == "yes")) for v in valid)
        probability = sum(likely) / len(valid)
    if 2 * ayes == len(valid):
        return Check(
            claim, None, confidence=0.5, probability=probability, raw="the votes are split"
        )
    passed = 2 * ayes > len(valid)
    confidence = probability if passed or probability is None else 1 - probability
    if len(valid) > 1:
        confidence = max(ayes, len(valid) - ayes) / len(valid)
    return Check(claim, passed, confidence=confidence, probability=probability, raw=raw)


def _moot(claim: Requirement, checks: dict[str, Check]) -> Check:
    """A claim that depends on one that fails fails too; on one that is unscored, it is unscored."""
    failed = any(checks[needed].passed is False for needed in claim.depends_on)
    return Check(claim, False if failed else None)


def _fault(check: Check) -> str:
    seen = f"; seen instead: {check.observed}" if check.observed else ""
    return f"{check.requirement.text}{seen}"


@cache
def instructions(role: str) -> str:
    """The system message of a role."""
    return (files("npcorrect.vlm") / "prompts" / f"{role}.txt").read_text(encoding="utf-8")


def _quoted(tag: str, text: str) -> str:
    """The text between tags, without any of these tags in it."""
    safe = text.replace("<", "(").replace(">", ")")
    return f"<{tag}>{safe}</{tag}>"


def _question(
    role: str,
    text: str,
    image: Image | None = None,
    schema: type[BaseModel] | None = None,
    choices: tuple[str, ...] = (),
    temperature: float = 0.0,
    seed: int | None = None,
) -> Question:
    images = (image,) if image is not None else ()
    messages = (Message("system", instructions(role)), Message("user", text, images))
    form = schema.model_json_schema() if schema else None
    return Question(messages, form, choices, temperature=temperature, seed=seed)


def _ask(vlm: VLM, questions: Sequence[Question]) -> list[Reply]:
    """Ask, and charge what it took.

    Raises:
        BudgetError: a question was not asked because of the budget.
    """
    replies = vlm.ask(questions) if questions else []
    charge(sum((reply.usage for reply in replies), Usage()))
    for reply in replies:
        if reply.stopped:
            raise BudgetError(reply.error)
    return replies


def _object(vlm: VLM, question: Question, schema: type[Schema]) -> Schema:
    """The reply as an object.

    Raises:
        VLMError: there is none.
    """
    (reply,) = _ask(vlm, [question])
    if reply.error:
        raise VLMError(reply.error, reply.text)
    try:
        return schema.model_validate_json(reply.text)
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(map(str, first["loc"]))
        reason = f"The model {vlm.name} gave no usable answer: {place} {first['msg']}."
        raise VLMError(reason, reply.text) from None
