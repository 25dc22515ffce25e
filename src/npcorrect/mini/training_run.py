"""One training run with a checkpoint, and the optimisers that the runs use."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

Rates = Callable[[dict[str, nn.Module]], Sequence[torch.optim.Optimizer]]
"""Makes the optimisers of a stage from its networks."""


class TrainingRun:
    """One training run with a checkpoint: parameters, optimisers, a cosine schedule, a log."""

    def __init__(
        self, name: str, out: Path, steps: int, networks: dict[str, nn.Module], rates: Rates
    ) -> None:
        self.name, self.out, self.steps, self.networks = name, out, steps, networks
        self.optimizers = rates(networks)
        self.peaks = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.step, self.seconds = 0, 0.0
        self.log: list[tuple[int, float]] = []
        self.path = out / f"{name}.checkpoint.pt"
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            for key, network in networks.items():
                network.load_state_dict(state["networks"][key])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step, self.seconds, self.log = state["step"], state["seconds"], state["log"]

    def save(self) -> None:
        """Write the checkpoint in one move, so that a kill leaves the old one or the new one."""
        state = {
            "networks": {key: network.state_dict() for key, network in self.networks.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
            "log": self.log,
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    def run(
        self, loss_of: Callable[[int], Tensor], after: Callable[[int], None] | None = None
    ) -> None:
        """Train to the last step: linear warm-up, then constant, then a linear fall to zero.

        ``loss_of`` makes a step's loss, a scalar; ``after`` is told the number of each step done.
        """
        bar = tqdm(total=self.steps, initial=self.step, desc=self.name, mininterval=5)
        started, mean = time.monotonic() - self.seconds, 0.0
        while self.step < self.steps:
            factor = min(1.0, (self.step + 1) / 100, (self.steps - self.step) / (0.45 * self.steps))
            for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * factor
            loss = loss_of(self.step)
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
            self.step += 1
            bar.update()
            mean = 0.98 * mean + 0.02 * loss.item()
            if after:
                after(self.step)
            if self.step % 100 == 0:
                self.seconds = time.monotonic() - started
                self.log.append((self.step, round(mean / (1 - 0.98**self.step), 5)))
                bar.set_postfix(loss=f"{self.log[-1][1]:.4f}")
            if self.step % 500 == 0 or self.step == self.steps:
                self.save()
        bar.close()

    def record(self) -> None:
        """Write steps, seconds and loss curve into the folder's ``training.json``."""
        path = self.out / "training.json"
        record = json.loads(path.read_text()) if path.exists() else {}
        record[self.name] = {
            "steps": self.step,
            "seconds": round(self.seconds),
            "threads": torch.get_num_threads(),
            "loss": self.log[:: max(1, len(self.log) // 30)],
        }
        path.write_text(json.dumps(record, indent=1) + "\n")


def adamw(rate: float) -> Rates:
    """A maker of one AdamW over the parameters of all networks, with learning rate ``rate``."""

    def make(networks: dict[str, nn.Module]) -> list[torch.optim.Optimizer]:
        parameters = [p for network in networks.values() for p in network.parameters()]
        return [torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=1e-3)]

    return make


def muon_and_adamw(networks: dict[str, nn.Module]) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of the transformer's blocks, AdamW on everything else."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for network in networks.values():
        for name, parameter in network.named_parameters():
            (matrices if "blocks" in name and parameter.ndim == 2 else rest).append(parameter)
    muon = torch.optim.Muon(matrices, lr=3e-3, adjust_lr_fn="match_rms_adamw", weight_decay=1e-2)
    return [muon, torch.optim.AdamW(rest, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=1e-3)]


@contextmanager
def autocast(device: str) -> Iterator[None]:
    """Within it, matrix products are in bfloat16 and precision-critical operations in float32."""
    with torch.autocast(device, torch.bfloat16):
        yield
