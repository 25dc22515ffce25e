"""What a redraw costs on every family, side by side with the stock call.

    python benchmarks/families.py                        # every family, tiny, on the CPU
    python benchmarks/families.py sdxl sd35              # some of them
    python benchmarks/families.py --flux full --device cuda --batch 1 2 4 8

For each family one picture is drawn in turn: by the stock pipeline with the negative at all steps
(a distilled one without any, for it takes none), and through npc with the negative at all steps, in
the family's window, and by NAG in the same window. The pipelines are tiny and have random weights.

*Evaluations* are rows of the denoiser that were really computed, per picture, counted on the module
itself. Times are of the wall clock on a GPU, and of the one thread that is used on a CPU, so that
neighbours do not disturb them. They are medians over the rounds; each ratio is to the stock call of
its own round, with the middle half of the ratios as spread. *Overhead* is what npc adds to the same
evaluations: the median difference between "all steps" and the stock call, in milliseconds a draw.
It does not grow with the network, so on a real model, whose draw takes seconds, it is what remains.

``--flux`` draws with a transformer of FLUX.1 [dev]'s size in bfloat16 (``full``), or of a small one
to try the same code without a GPU (``small``). Speed does not depend on the values of the weights.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, process_time
from typing import Any

import diffusers
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from npcorrect.diffusion.families import FAMILIES
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.records import Drawing, Request
from tests.diffusion import tiny

NEGATIVES = ("four circles", "two blue stars", "one cat", "a dog", "five hearts", "six squares",
             "a wooden table", "a striped background")  # fmt: skip
SMALL = {
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 128,
    "num_attention_heads": 2,
    "joint_attention_dim": 64,
    "pooled_projection_dim": tiny.WIDTH,
}


def flux(size: str, device: str) -> PipelineModel:
    """FLUX.1 [dev] with random weights: its transformer at full size, or a small one."""
    width = {"full": 4096, "small": SMALL["joint_attention_dim"]}[size]
    changes = {"pooled_projection_dim": tiny.WIDTH} if size == "full" else SMALL
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        transformer = diffusers.FluxTransformer2DModel(guidance_embeds=True, **changes)
        torch.set_default_dtype(torch.float32)
    pipeline = diffusers.FluxPipeline(
        transformer=transformer.eval().requires_grad_(False),
        scheduler=tiny.flow_scheduler(use_dynamic_shifting=True),
        vae=tiny.vae(16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1),
        text_encoder=tiny.clip(),
        tokenizer=tiny.clip_tokenizer(),
        text_encoder_2=tiny.t5(width),
        tokenizer_2=tiny.t5_tokenizer(),
    ).to(device, torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    return PipelineModel(f"flux {size}", pipeline, FAMILIES["flux-dev"])


def prepare(name: str, device: str) -> tuple[PipelineModel, int]:
    """The model to measure, and the side of its pictures."""
    if name.startswith("flux "):
        size = name.removeprefix("flux ")
        return flux(size, device), 1024 if size == "full" else 128
    family = FAMILIES[name]
    defaults = replace(family.defaults, sizes=(tiny.SIZE,))
    return PipelineModel(name, tiny.build(name).to(device), family, defaults), tiny.SIZE


@contextmanager
def counting(model: PipelineModel) -> Iterator[list[int]]:
    """Rows that pass through the denoiser, one entry for each call of its layers."""
    network = model.stock.denoiser
    last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    last = getattr(network, "conv_out", last)
    rows: list[int] = []
    handle = last.register_forward_hook(lambda _module, _inputs, output: rows.append(len(output)))
    try:
        yield rows
    finally:
        handle.remove()


def ways(model: PipelineModel, batch: int, steps: int, side: int) -> dict[str, Callable[[], Any]]:
    """The draws to compare, the stock call first."""
    rules = model.family.rules
    own = "paper" if "paper" in rules else "nag"
    window = max(1, round(steps * 3 / 50))

    def drawings(rule: str, window: int) -> list[Drawing]:
        request = Request(tiny.PROMPT, seed=3, steps=steps, rule=rule, negative=window, size=side)
        plan = model.plan(request)
        return [plan.drawing(0, negative) for negative in NEGATIVES[:batch]]

    found = {"all steps": drawings(own, steps), f"window of {window}": drawings(own, window)}
    if "nag" in rules and own != "nag":
        found["nag in window"] = drawings("nag", window)
    guided = own == "paper"
    first = found["all steps"][0]

    def stock() -> None:
        second = NEGATIVES[:batch] if guided else None
        with torch.inference_mode():
            model.stock.draw(first, [tiny.PROMPT] * batch, [3] * batch, guided, second)

    draws = {name: lambda own=own: model.draw(own) for name, own in found.items()}
    return {"stock": stock} | draws


def timed(draw: Callable[[], Any], device: str) -> float:
    """Seconds: of the wall clock on a GPU, of one processor thread on a CPU, which others share."""
    clock = process_time if device == "cpu" else perf_counter
    started = clock()
    draw()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return clock() - started


def measure(model: PipelineModel, batch: int, steps: int, side: int, rounds: int) -> list[Any]:
    """One row for each way."""
    contestants = ways(model, batch, steps, side)
    evaluations = {}
    for name, draw in contestants.items():
        with counting(model) as counted:
            draw()
        evaluations[name] = sum(counted) / batch
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, draw in contestants.items():
            seconds[name].append(timed(draw, str(model.stock.denoiser.device)))
    rows = []
    for name, times in seconds.items():
        pairs = list(zip(times, seconds["stock"], strict=True))
        low, _, high = quantiles([own / stock for own, stock in pairs], n=4)
        rows.append(
            {
                "model": model.name,
                "batch": batch,
                "way": name,
                "evaluations": evaluations[name],
                "seconds": median(times),
                "ratio": median(own / stock for own, stock in pairs),
                "middle_half": (low, high),
                "overhead_ms": 1e3 * median(own - stock for own, stock in pairs),
            }
        )
    return rows


def show(rows: list[Any]) -> None:
    table = Table("model", "batch", "way", "evaluations", "ms", "ratio", "middle half", "overhead")
    stock = rows[0]
    for row in rows:
        low, high = row["middle_half"]
        stock = row if row["way"] == "stock" else stock
        same_work = row["way"] == "all steps" and row["evaluations"] == stock["evaluations"]
        table.add_row(
            row["model"] if row["way"] == "stock" else "",
            str(row["batch"]),
            row["way"],
            f"{row['evaluations']:g}",
            f"{1e3 * row['seconds']:.0f}",
            f"{row['ratio']:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{row['overhead_ms']:+.1f} ms" if same_work else "",
        )
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--flux", choices=["full", "small"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    names = [f"flux {arguments.flux}"] if arguments.flux else arguments.families
    rows = []
    for name in track(names, "measuring", console=Console(stderr=True)):
        model, side = prepare(name, arguments.device)
        for batch in arguments.batch:
            rows += measure(model, batch, arguments.steps, side, arguments.rounds)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows)


if __name__ == "__main__":
    main()
