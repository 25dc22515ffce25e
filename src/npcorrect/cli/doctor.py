"""``npc doctor``: what is installed, and whether it is intact."""

from __future__ import annotations

import os

from npcorrect.cli.app import app, reporting_errors

EXTRAS = {
    "accelerate": "models",
    "peft": "models",
    "bitsandbytes": "quantize",
    "openai": "vlm",
    "llguidance": "local",
    "pyarrow": "analysis",
    "ray": "ray",
    "mcp": "mcp",
}
"""Optional packages, and the extra that brings each."""


@app.command()
@reporting_errors
def doctor() -> None:
    """Say what is installed, what it would run on, and whether the embedded model is intact."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch
    from huggingface_hub.constants import HF_HUB_CACHE
    from rich.table import Table

    from npcorrect.cli.console import PlainConsole
    from npcorrect.mini.model import WEIGHTS, load_pipeline

    table = Table("what", "value", title="npc doctor")
    table.add_row("python", platform.python_version())
    for name in ("npcorrect", "torch", "diffusers", "transformers"):
        table.add_row(name, version(name))
    for name, extra in EXTRAS.items():
        try:
            table.add_row(name, version(name))
        except PackageNotFoundError:
            table.add_row(name, f"not installed; pip install 'npcorrect[{extra}]'", style="dim")
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        table.add_row(
            "cuda", f"{torch.cuda.get_device_name()}, {free >> 30} of {total >> 30} GiB free"
        )
    else:
        table.add_row("cuda", "not available; runs on the CPU")
    table.add_row("cpu threads", str(torch.get_num_threads()))
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        table.add_row("memory", f"{memory:.1f} GiB")
    table.add_row("model cache", f"{HF_HUB_CACHE} (the embedded model needs none)")
    load_pipeline()
    total = sum(file.stat().st_size for file in WEIGHTS.glob("*.safetensors"))
    table.add_row("embedded model", f"mini (intact, {total / 1e6:.1f} MB)")
    PlainConsole().print(table)
