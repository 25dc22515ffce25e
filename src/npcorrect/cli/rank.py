"""``npc rank``: scores without drawing."""

from __future__ import annotations

from typing import Annotated

import typer

from npcorrect.cli.app import Device, Prompt, RankerName, app, reporting_errors


@app.command()
@reporting_errors
def rank(
    prompt: Prompt,
    negatives: Annotated[list[str], typer.Argument(help="Negative prompts to compare.")],
    device: Device = "cpu",
    ranker: RankerName = None,
) -> None:
    """Score NEGATIVES against PROMPT in text space, without drawing anything.

    Example: npc rank "three red circles" "four circles" "blue circles"
    """
    from npcorrect.mini.embedded import embedded
    from npcorrect.mini.vlm import MiniChecklister
    from npcorrect.ranking import ranker_maker
    from npcorrect.records import Candidate

    checklist = MiniChecklister().checklist(prompt)
    chosen = ranker_maker(ranker)(embedded(device))
    candidates = tuple(Candidate(negative, "targeted") for negative in negatives)
    from rich.console import Console
    from rich.table import Table

    table = Table("negative prompt", "score", "parts", title=prompt)
    for ranked in chosen.rank(checklist, candidates):
        parts = ", ".join(f"{name} {value:+.3f}" for name, value in ranked.parts)
        table.add_row(ranked.candidate.negative_prompt, f"{ranked.score:+.4f}", parts)
    Console().print(table)
