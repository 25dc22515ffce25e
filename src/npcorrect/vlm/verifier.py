"""Verifies pictures by asking a model: many claims in one question, or each in its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from PIL.Image import Image

from npcorrect.errors import BudgetError, SettingsError, VLMError
from npcorrect.records import Check, Checklist, Requirement, Verdict
from npcorrect.vlm.base import VLM, Reply
from npcorrect.vlm.questions import about_claim, about_claims, ask, asked, listed
from npcorrect.vlm.schemas import observed, observed_schema

Questions = Literal["together", "single"]
"""Whether claims are asked in one question where the model is known to answer as it does to single
ones, or always one by one."""
MAX_VOTES = 15
VOTING_TEMPERATURE = 0.7
CERTAIN = 0.9
"""The probability from which on an answer to a claim among others counts; less is asked singly."""


class VLMVerifier:
    """Checks the claims of a checklist.

    Where the model can be asked ``together``, one question has all claims, and those with an answer
    less likely than :data:`CERTAIN` are asked again, each alone. Otherwise each is asked alone, all
    of them at once, and those that depend on others once these hold. A claim that depends on one
    that fails is moot and fails unasked. With ``votes`` above 1 each claim is asked alone so often,
    with other seeds and some temperature, and the majority counts. One more question finds what is
    seen in place of the failed claims.
    """

    def __init__(self, vlm: VLM, votes: int = 1, questions: Questions = "together") -> None:
        check_votes(votes)
        self._vlm, self._votes, self._questions = vlm, votes, questions

    def verify(self, image: Image, checklist: Checklist) -> Verdict:
        """One check per requirement, in order; those without a usable answer are unscored.

        Raises:
            VLMError: no question got a usable answer.
        """
        return self._verify(_Verification(image, checklist.requirements), observe=True)

    def verify_briefly(
        self,
        image: Image,
        checklist: Checklist,
        *,
        first: Collection[str] = (),
        observe: bool = True,
    ) -> Verdict:
        """As :meth:`verify`, up to a round of questions in which a claim fails.

        See :class:`~npcorrect.vlm.roles.BriefVerifier`.

        Raises:
            VLMError: no question got a usable answer.
        """
        state = _Verification(image, checklist.requirements, first=set(first), brief=True)
        return self._verify(state, observe)

    def _verify(self, state: _Verification, observe: bool) -> Verdict:
        if self._may_ask_together(state.claims):
            self._ask_together(state)
        while claims := state.ready():
            self._ask_singly(state, claims)
        if state.errors and all(c.passed is None for c in state.checks.values()):
            raise VLMError(state.errors[0], next(iter(state.checks.values())).raw)
        return state.verdict(self._observe(state) if observe else {})

    def _may_ask_together(self, claims: Sequence[Requirement]) -> bool:
        several = len(claims) > 1 and self._votes == 1
        return several and self._questions == "together" and self._vlm.together

    def _ask_together(self, state: _Verification) -> None:
        """Enter the answers that are certain."""
        claims = {claim.id: claim.text for claim in state.claims}
        (reply,) = ask(self._vlm, [about_claims(claims, state.image)])
        for claim in state.claims:
            shares = reply.fields.get(claim.id, {})
            likeliest = max(shares, key=shares.__getitem__, default="")
            if shares.get(likeliest, 0.0) >= CERTAIN:
                state.known[claim.id] = _counted(claim, [Reply(likeliest, probabilities=shares)])

    def _ask_singly(self, state: _Verification, claims: Sequence[Requirement]) -> None:
        temperature = VOTING_TEMPERATURE if self._votes > 1 else 0.0
        questions = [
            about_claim(claim.text, state.image, temperature=temperature, seed=vote)
            for claim in claims
            for vote in range(self._votes)
        ]
        replies = ask(self._vlm, questions)
        state.errors += [reply.error for reply in replies if reply.error]
        for place, claim in enumerate(claims):
            votes = replies[place * self._votes : (place + 1) * self._votes]
            state.checks[claim.id] = _counted(claim, votes)

    def _observe(self, state: _Verification) -> dict[str, str]:
        """What is seen in place of the claims that failed and are not moot."""
        failed = {claim.id: claim.text for claim in state.failed}
        if not failed:
            return {}
        schema = observed_schema(tuple(failed))
        question = asked("observer", listed(failed), state.image, schema=schema, check=observed)
        try:
            (reply,) = ask(self._vlm, [question])
        except BudgetError as error:  # the verdict is paid for, and stands without
            state.errors.append(str(error))
            return {}
        if reply.error:
            state.errors.append(reply.error)
            return {}
        return observed(reply.text)


@dataclass
class _Verification:
    """The state of one verification: what is known, what is checked, what must be asked next.

    ``known`` holds certain answers that were given together; they count once what they depend on
    holds. A ``brief`` one asks the claims that ``first`` names in its first round, and ends with
    the round in which a claim fails.
    """

    image: Image
    claims: Sequence[Requirement]
    first: set[str] = field(default_factory=set)
    brief: bool = False
    known: dict[str, Check] = field(default_factory=dict)
    checks: dict[str, Check] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Requirement]:
        """The claims that failed and are not moot."""
        fallen = {name for name, check in self.checks.items() if check.passed is False}
        claims = (check.requirement for check in self.checks.values())
        return [c for c in claims if c.id in fallen and fallen.isdisjoint(c.depends_on)]

    def ready(self) -> list[Requirement]:
        """The claims to ask next; none where all are checked, or where one failed and that is
        enough."""
        self._settle()
        if self.brief and self.failed:
            return []
        early = [c for c in self.claims if c.id in self.first and c.id not in self.checks]
        self.first = set()
        return early or [c for c in self.claims if c.id not in self.checks and self._holds(c)]

    def verdict(self, seen: Mapping[str, str]) -> Verdict:
        """The verdict of all checks in the claims' order.

        ``seen`` has what was observed in place of a claim, by the claim's id.
        """
        answered = self.known | self.checks
        checks = (answered.get(c.id, Check(c, None, skipped=self.brief)) for c in self.claims)
        named = tuple(replace(c, observed=seen.get(c.requirement.id, "")) for c in checks)
        return Verdict(named, "; ".join(dict.fromkeys(self.errors)))

    def _settle(self) -> None:
        """Enter all checks that need no question: the moot ones, and those known already."""
        while settled := {
            claim.id: check
            for claim in self.claims
            if claim.id not in self.checks and (check := self._unasked(claim))
        }:
            self.checks |= settled

    def _unasked(self, claim: Requirement) -> Check | None:
        """The check of a claim without asking, or None where it must be asked or has to wait."""
        known = self.known.get(claim.id)
        if self.brief and known and not known.passed:
            return known
        if any(needed not in self.checks for needed in claim.depends_on):
            return None
        return known if self._holds(claim) else _moot(claim, self.checks)

    def _holds(self, claim: Requirement) -> bool:
        """Whether everything is known to hold that a claim depends on."""
        needed = (self.checks.get(name) for name in claim.depends_on)
        return all(check is not None and check.passed for check in needed)


def check_votes(votes: int) -> None:
    """Refuse a number of votes that makes no sense.

    Raises:
        SettingsError: it is not from 1 to :data:`MAX_VOTES`.
    """
    if not 1 <= votes <= MAX_VOTES:
        raise SettingsError(f"The votes are {votes}; choose a number from 1 to {MAX_VOTES}.")


def _counted(claim: Requirement, votes: Sequence[Reply]) -> Check:
    """The check that the votes make; unscored where none counts, or where they are split."""
    valid = [vote for vote in votes if not vote.error]
    raw = next((vote.text for vote in votes if vote.error), "")
    if not valid:
        return Check(claim, None, raw=raw)
    ayes = sum(vote.text == "yes" for vote in valid)
    probability = _probability(valid)
    if 2 * ayes == len(valid):
        return Check(
            claim, None, confidence=0.5, probability=probability, raw="the votes are split"
        )
    passed = 2 * ayes > len(valid)
    confidence = probability if passed or probability is None else 1 - probability
    if len(valid) > 1:
        confidence = max(ayes, len(valid) - ayes) / len(valid)
    return Check(claim, passed, confidence=confidence, probability=probability, raw=raw)


def _probability(votes: Sequence[Reply]) -> float | None:
    """The mean probability of "yes"; a vote without one counts as its word.

    None where a single vote has none.
    """
    if len(votes) == 1 and not votes[0].probabilities:
        return None
    return sum(_yes(vote) for vote in votes) / len(votes)


def _yes(vote: Reply) -> float:
    """The probability of "yes"; where only "no" has one, what that leaves."""
    shares = vote.probabilities
    if "yes" in shares:
        return shares["yes"]
    return 1 - shares["no"] if "no" in shares else float(vote.text == "yes")


def _moot(claim: Requirement, checks: Mapping[str, Check]) -> Check:
    """A claim that depends on one that fails fails too; on one that is unscored, it is unscored."""
    failed = any(checks[needed].passed is False for needed in claim.depends_on)
    return Check(claim, False if failed else None)
