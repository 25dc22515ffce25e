"""``npc doctor``: what is installed and intact, and what a model can do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from npcorrect.cli.app import app, reporting_errors
from npcorrect.cli.options import Only, takes_settings
from npcorrect.extras import EXTRAS
from npcorrect.settings import LoadSettings, RoleSettings

if TYPE_CHECKING:
    from npcorrect.vlm.settings import VLMTable

PACKAGES = (
    "npcorrect", "torch", "diffusers", "transformers", "accelerate", "peft", "bitsandbytes",
    "llguidance", "pyarrow", "ray", "fastapi", "mcp",
)  # fmt: skip
"""Packages whose versions are told."""


@app.command()
@reporting_errors
@takes_settings
def doctor(
    context: typer.Context,
    load: Annotated[LoadSettings, Only(("model",))],
    roles: Annotated[RoleSettings, Only(("vlm", "budget"))],
    trials: Annotated[
        int, typer.Option(min=2, max=1000, help="How often the model is asked the same.")
    ] = 20,
) -> None:
    """Say what is installed, what it would run on, and whether the embedded model is intact.

    With --vlm, ask that model a few dozen questions about a picture, and say what its server can,
    how long it takes and thinks, whether the order of "yes or no" changes its answers, how often
    they flip, and what a correction will cost. With --model and the address of a server that draws,
    ask it for a dozen small pictures where it is not remembered, and say what it can.

    Example: npc doctor --vlm http://localhost:8000/v1#Qwen/Qwen3-VL-8B-Instruct
    """
    from rich.table import Table

    from npcorrect.cli.console import PlainConsole

    table = Table("what", "value", title="npc doctor")
    for row in _installed():
        table.add_row(*row)
    from npcorrect.vlm.addresses import is_server
    from npcorrect.vlm.settings import read_table

    servers = read_table(context.obj or {})
    if is_server(load.model):
        for row in _drawing_server(load, servers):
            table.add_row(*row)
    if roles.vlm is not None:
        for row in _diagnosed(replace(roles, cache=False), servers, trials):
            table.add_row(*row)
    PlainConsole().print(table)


def _drawing_server(load: LoadSettings, servers: VLMTable) -> Iterator[tuple[str, str]]:
    """What a server that draws can do, and by which names."""
    from npcorrect.remote.capabilities import Parameter
    from npcorrect.remote.model import ServerModel
    from npcorrect.session import SessionSettings, open_model

    with open_model(SessionSettings(load=load, table=servers)) as model:
        assert isinstance(model, ServerModel)
        able = model.capabilities
    yield "model", load.model
    yield "size", "{}x{}".format(*able.size) + (", or as asked" if able.sized else " only")
    for parameter in get_args(Parameter):
        yield parameter, able.names.get(parameter, "not taken")


def _diagnosed(roles: RoleSettings, servers: VLMTable, trials: int) -> Iterator[tuple[str, str]]:
    """What a model's answers say of it."""
    from npcorrect.cli.console import table_value
    from npcorrect.vlm import build
    from npcorrect.vlm.diagnosis import Estimate, examine
    from npcorrect.vlm.settings import VLMSettings

    def costs(estimate: Estimate) -> str:
        money = "" if estimate.money is None else f", {estimate.money:.4f} by your prices"
        return f"about {estimate.calls} calls, {estimate.tokens} tokens{money}"

    assert roles.vlm is not None
    settings = VLMSettings(roles, servers)
    with build.model(roles.vlm, settings) as vlm:
        diagnosis = examine(vlm, trials)
    yield "model", diagnosis.model
    for field in fields(diagnosis.capabilities) if diagnosis.capabilities else ():
        yield field.name.replace("_", " "), table_value(getattr(diagnosis.capabilities, field.name))
    yield "all claims in one question", "yes" if diagnosis.together else "no, each by itself"
    yield "a check", f"{diagnosis.seconds:.1f} s, {diagnosis.tokens_written} tokens written at most"
    yield (
        "order of yes and no",
        f"{diagnosis.orders_agree} of {diagnosis.claims} claims answered alike",
    )
    yield (
        "the same question",
        (
            f"{diagnosis.flips} of {diagnosis.trials} answers differ from most, "
            f"{diagnosis.unusable} unusable"
        ),
    )
    yield "first picture accepted", costs(diagnosis.accepted)
    yield "redrawn", costs(diagnosis.redrawn)


def _installed() -> Iterator[tuple[str, str]]:
    """What is installed here, and whether the embedded model is intact."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    yield "python", platform.python_version()
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, f"not installed; pip install 'npcorrect[{EXTRAS.get(name, 'app')}]'"
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        yield "memory", f"{memory:.1f} GiB"
    if find_spec("torch") is not None:
        yield from _drawing()


def _drawing() -> Iterator[tuple[str, str]]:
    """What pictures would be drawn on."""
    import torch
    from huggingface_hub.constants import HF_HUB_CACHE

    from npcorrect.mini.model import WEIGHTS, load_pipeline

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield "cuda", f"{torch.cuda.get_device_name()}, {free >> 30} of {total >> 30} GiB free"
    else:
        yield "cuda", "not available; runs on the CPU"
    yield "cpu threads", str(torch.get_num_threads())
    yield "model cache", f"{HF_HUB_CACHE} (the embedded model needs none)"
    load_pipeline()
    size = sum(file.stat().st_size for file in WEIGHTS.glob("*.safetensors"))
    yield "embedded model", f"mini (intact, {size / 1e6:.1f} MB)"
