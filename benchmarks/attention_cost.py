"""What looking costs: a traced draw against a plain one, and ranking against one evaluation.

    python benchmarks/attention_cost.py

Times are taken in turn in one process, so that both meet the same load; each pair gives one ratio.
Peak memory is that of a fresh process that draws once, plain or traced, in turn too.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
import torch

from npcorrect.analysis.compare import terms_of
from npcorrect.analysis.trace import trace
from npcorrect.diffusion.base import Reading, TokenStates
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.mini.data import TAGS, sample_spec
from npcorrect.mini.embedded import embedded
from npcorrect.mini.roles import MiniChecklister
from npcorrect.ranking import salient_ranker
from npcorrect.records import Candidate, Request

PROMPT, NEGATIVE = "three red apples and one blue cup", "four apples"
CANDIDATES = (5, 50, 500)


class Draws:
    """The same draw, plain and traced (with a map for each required word)."""

    def __init__(self, model: PipelineModel, batch: int) -> None:
        self._model = model
        plan = model.plan(Request(PROMPT, looks=0, strength=1.0))
        self._drawings = [plan.drawing(0, NEGATIVE)] * batch
        self._terms = [terms_of(model, MiniChecklister().checklist(PROMPT)).places] * batch

    def plain(self) -> None:
        self._model.draw(self._drawings)

    def traced(self) -> None:
        with trace(self._model.stock.denoiser, self._terms):
            self._model.draw(self._drawings)


def seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median and range."""
    return f"{np.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def time_of_draws(model: PipelineModel, rounds: int) -> None:
    for batch in (1, 8):
        draws = Draws(model, batch)
        draws.plain()
        pairs = [(seconds(draws.plain), seconds(draws.traced)) for _ in range(rounds)]
        ratios = [traced / plain for plain, traced in pairs]
        plain, traced = (spread(values) for values in zip(*pairs, strict=True))
        print(
            f"{rounds} draws of {batch}: plain {plain} s, traced {traced} s, ratio {spread(ratios)}"
        )


def memory_of_draws(rounds: int) -> None:
    peaks: dict[str, list[float]] = {"plain": [], "traced": []}
    for _ in range(rounds):
        for kind, values in peaks.items():
            command = [sys.executable, __file__, "--one", kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            values.append(float(done.stdout.split()[-1]))
    ratios = [t / p for p, t in zip(peaks["plain"], peaks["traced"], strict=True)]
    print(
        f"peak memory of {rounds} processes: plain {spread(peaks['plain'], '.0f')} MB, "
        f"traced {spread(peaks['traced'], '.0f')} MB, ratio {spread(ratios, '.3f')}"
    )


def one(kind: str) -> None:
    """Draw once and print the peak memory of this process in MB."""
    getattr(Draws(embedded(), 8), kind)()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def some_texts(number: int) -> list[str]:
    """Different texts of the embedded world."""
    rng, texts = random.Random(0), dict[str, None]()
    while len(texts) < number:
        texts[sample_spec(rng, rng.choice(TAGS)).text()] = None
    return list(texts)


class Encoder:
    """The model's encoder, with its calls counted."""

    def __init__(self, model: PipelineModel) -> None:
        self._model, self.calls = model, 0

    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        self.calls += 1
        return self._model.encode(texts, reading)


def cost_of_ranking(model: PipelineModel, rounds: int) -> None:
    checklist = MiniChecklister().checklist(PROMPT)
    denoiser = model.stock.denoiser
    calls: list[dict[str, object]] = []
    with torch.inference_mode():
        handle = denoiser.register_forward_pre_hook(
            lambda _, args, kwargs: calls.append(kwargs), with_kwargs=True
        )
        model.draw([model.plan(Request(PROMPT, steps=1, looks=0)).drawing(0, None)])
        handle.remove()
        for number in CANDIDATES:
            candidates = [Candidate(text, "targeted") for text in some_texts(number)]
            ratios, times, encoded = [], [], 0
            for _ in range(rounds):
                encoder = Encoder(model)
                ranker = salient_ranker(encoder)
                evaluation = seconds(lambda: denoiser(**calls[0]))
                times.append(seconds(lambda: ranker.rank(checklist, candidates)))  # noqa: B023
                ratios.append(times[-1] / evaluation)
                encoded = encoder.calls
            milliseconds = spread([1000 * time for time in times], ".1f")
            print(
                f"ranking {number} candidates: {encoded} encoder call, {milliseconds} ms, "
                f"{spread(ratios)} times one denoiser evaluation"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one", choices=("plain", "traced"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one)
        return
    model = embedded()
    time_of_draws(model, options.rounds)
    cost_of_ranking(model, options.rounds)
    memory_of_draws(options.rounds)


if __name__ == "__main__":
    main()
