"""``npc rank``: scores without drawing."""

from __future__ import annotations

from typing import Annotated

import typer

from npcorrect.cli.app import Prompt, app, reporting_errors
from npcorrect.cli.options import Only, takes_settings
from npcorrect.settings import DrawSettings, LoadSettings


@app.command()
@reporting_errors
@takes_settings
def rank(
    prompt: Prompt,
    negatives: Annotated[list[str], typer.Argument(help="Negative prompts to compare.")],
    draw: Annotated[DrawSettings, Only(("ranker",))],
    load: LoadSettings,
) -> None:
    """Score NEGATIVES against PROMPT in text space, without drawing anything.

    Example: npc rank "three red apples" "four apples" "blue apples"
    """
    from rich.table import Table
    from rich.text import Text

    from npcorrect.cli.console import PlainConsole
    from npcorrect.plan import check_request
    from npcorrect.ranking import ranker_maker
    from npcorrect.records import Candidate, Request
    from npcorrect.session import load_model, read_requirements

    for text in (prompt, *negatives):
        check_request(Request(text, **vars(draw)))
    checklist = read_requirements(prompt, load)
    chosen = ranker_maker(draw.ranker)(load_model(load))
    candidates = tuple(Candidate(negative, "targeted") for negative in negatives)
    table = Table("negative prompt", "score", "parts", title=Text(prompt))
    for ranked in chosen.rank(checklist, candidates):
        parts = ", ".join(f"{name} {value:+.3f}" for name, value in ranked.parts)
        table.add_row(Text(ranked.candidate.negative_prompt), f"{ranked.score:+.4f}", parts)
    PlainConsole().print(table)
