"""The options of commands that spread their work over workers, and what is made of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from npcorrect.cli.options import refuse_given
from npcorrect.settings import LoadSettings, RoleSettings

if TYPE_CHECKING:
    from npcorrect.workers import Pool

_PANEL = "Workers"
Workers = Annotated[
    int,
    typer.Option(
        min=1,
        help="Workers, each with the model; more than one needs Ray.",
        rich_help_panel=_PANEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Threads of a worker; default: OMP_NUM_THREADS, or an equal share.",
        rich_help_panel=_PANEL,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="A running Ray cluster, such as 'auto' or 10.0.0.1:6379.", rich_help_panel=_PANEL
    ),
]


def pool(
    workers: int,
    threads: int | None,
    ray_address: str | None,
    load: LoadSettings,
    roles: RoleSettings,
) -> Pool | None:
    """The workers that are asked for; None where the work is done here.

    Raises:
        SettingsError: Ray is not installed, the address is empty, or a budget would be kept by
            several workers.
    """
    from npcorrect.errors import SettingsError
    from npcorrect.workers import Pool, require_ray

    if ray_address == "":
        raise SettingsError("--ray-address is empty; give the cluster's address, or leave it out.")
    if roles.budget and workers > 1:
        raise SettingsError("A budget is kept by one worker; leave out --workers or --budget.")
    if workers == 1 and ray_address is None:
        return None
    require_ray()
    return Pool(workers, threads_each(workers, threads), _on_gpus(load.device), ray_address)


def pool_alone(
    context: typer.Context,
    workers: int,
    threads: int | None,
    ray_address: str | None,
    load: LoadSettings,
    roles: RoleSettings,
) -> Pool | None:
    """As :func:`pool`, where threads are of workers alone.

    Raises:
        SettingsError: see :func:`pool`; or there are threads without workers.
    """
    made = pool(workers, threads, ray_address, load, roles)
    if made is None:
        refuse_given(context, ("threads",), "is for workers; say with --workers how many")
    return made


def threads_each(workers: int, threads: int | None) -> int:
    """How many threads a worker has: as asked for, by OMP_NUM_THREADS, or an equal share."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # nested levels follow
    named = int(first) if first.isdecimal() and len(first) < 5 else 0
    return threads or named or max(1, _cores() // workers)


def _on_gpus(device: str | None) -> bool:
    """Whether workers take an accelerator each: as asked for, or where there is one."""
    if device is None:
        import torch

        return torch.cuda.is_available()
    return device.startswith("cuda")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
