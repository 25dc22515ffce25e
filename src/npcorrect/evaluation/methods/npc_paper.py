"""The paper's loop as released (arXiv 2512.07702), whose code draws with FLUX.1 [dev] alone.

Five candidates are asked for, none longer than six words; all of them are ranked by the score
``paper`` and tried in that order, from the original's seed, each as the one negative of the first 3
of 50 steps. The scale 1.8 is FLUX.1 [dev]'s, and that of families that, as it, draw without true
guidance; every other family draws at its own.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from npcorrect.diffusion.wrapper import Wrapper
from npcorrect.errors import BudgetError, ModelError, VLMError
from npcorrect.evaluation.methods.base import Task, restarted
from npcorrect.loop import Correction
from npcorrect.phrases import words
from npcorrect.plan import PAPER_WINDOW, Plan, window_steps
from npcorrect.proposing import MAX_WORDS, RuleProposer
from npcorrect.records import Attempt, Candidate, Caption, Checklist, Request, Verdict
from npcorrect.vlm.roles import Proposer

PROPOSED = 5
RELEASED_SCALE = 1.8


def attempts(task: Task, checklist: Checklist | None = None) -> Generator[Attempt]:
    """The paper's loop; without a checklist, it makes its own from the prompt."""
    roles = task.session.roles
    short = replace(roles, proposer=ShortProposer(roles.proposer))
    asked = replace(task, session=replace(task.session, roles=short))
    asked = asked.around(AsReleased(task.session.model))
    scale = None if task.session.family.guides_always else RELEASED_SCALE

    def run(request: Request) -> Correction:
        five = replace(released(request), scale=scale, candidates=PROPOSED)
        return asked.correct(five, checklist)

    yield from restarted(asked, run)


class AsReleased(Wrapper):
    """Draws by the released schedule, and what a prompt denies with no negative of its own."""

    def plan(self, request: Request) -> Plan:
        """As the other model plans it, but for when a negative acts and what the prompt denies."""
        made = super().plan(request)
        window = window_steps(None, made.template.num_inference_steps, PAPER_WINDOW)
        return replace(made, template=replace(made.template, window=window), denies=False)


def released(request: Request) -> Request:
    """A request with the released schedule, rule and ranking, at the family's own scale."""
    return replace(
        request,
        rule="paper",
        scale=None,
        ranker="paper",
        negative_scale=None,
        negative=None,
        looks=0,
        strength=1.0,
        rewinds=0,
        fresh=False,
    )


@dataclass(frozen=True)
class ShortProposer:
    """Proposes what the released loop tries: five candidates of at most six words.

    Rules propose in its place where the other proposer gives no answer.
    """

    inner: Proposer

    def propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, limit: int
    ) -> tuple[Candidate, ...]:
        """At most :data:`PROPOSED` candidates, whatever the limit.

        Raises:
            BudgetError: the other proposer may not be asked any more.
        """
        # One more is asked for, because the whole caption, which comes first, is too long.
        asked = checklist, verdict, caption, PROPOSED + 1
        try:
            made = self.inner.propose(*asked)
        except BudgetError:
            raise
        except (VLMError, ModelError):
            made = RuleProposer().propose(*asked)
        short = (c for c in made if len(words(c.negative_prompt)) <= MAX_WORDS)
        return tuple(short)[:PROPOSED]
