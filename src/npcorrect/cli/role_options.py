"""The options that name models, which several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from npcorrect.vlm.settings import VLMSettings

Vlm = Annotated[
    str | None,
    typer.Option(
        envvar="NPC_VLM",
        help="The model that checks, describes and proposes: openai:gpt-4.1, "
        "http://localhost:8000/v1#model, or local:ID. See docs/vlm.md.",
    ),
]
Checklister = Annotated[
    str | None,
    typer.Option(
        envvar="NPC_CHECKLISTER", help="Another model to take prompts apart, or 'grammar'."
    ),
]
Verifier = Annotated[
    str | None,
    typer.Option(envvar="NPC_VERIFIER", help="Another model to check pictures, or 'embedded'."),
]
Captioner = Annotated[
    str | None,
    typer.Option(envvar="NPC_CAPTIONER", help="Another model to describe pictures."),
]
Proposer = Annotated[
    str | None,
    typer.Option(envvar="NPC_PROPOSER", help="Another model to propose negatives, or 'rules'."),
]
Votes = Annotated[
    int,
    typer.Option(envvar="NPC_VOTES", help="How often each claim is asked; the majority counts."),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        envvar="NPC_BUDGET",
        help="Stop before models take more: 0.50 (money), '200 calls' or '50000 tokens'.",
    ),
]
Cache = Annotated[
    bool, typer.Option(envvar="NPC_CACHE", help="Answer what was asked before from a file.")
]


def vlm_settings(
    context: typer.Context,
    vlm: str | None,
    roles: dict[str, str | None],
    **others: Any,
) -> VLMSettings:
    """The settings that the options and the settings file make.

    Raises:
        SettingsError: the file's ``[vlm]`` table cannot work.
    """
    from npcorrect.vlm.settings import VLMSettings, read_table

    named = {role: name for role, name in roles.items() if name}
    return VLMSettings(vlm, named, table=read_table(context.obj or {}), **others)
