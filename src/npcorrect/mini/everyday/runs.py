"""One training run with a checkpoint, and the optimisers that the runs use."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

Optimizers = Sequence[torch.optim.Optimizer]
CHECKPOINT_SECONDS = 180.0


@dataclass(frozen=True)
class Plan:
    """Steps of each stage, and how the work is laid out."""

    encoder: int = 1_500
    text: int = 800
    decoder: int = 600
    teacher: int = 6_000
    student: int = 700
    verifier: int = 1_500
    batch: int = 128
    device: str = "cpu"
    seed: int = 0


class Run:
    """Parameters, optimisers, a learning-rate schedule and a log, resumed from a checkpoint."""

    def __init__(
        self,
        name: str,
        out: Path,
        steps: int,
        networks: dict[str, nn.Module],
        optimizers: Optimizers,
    ) -> None:
        self.name, self.out, self.steps, self.networks = name, out, steps, networks
        self.optimizers = optimizers
        self.peaks = [[g["lr"] for g in o.param_groups] for o in optimizers]
        self.step, self.seconds = 0, 0.0
        self.log: list[tuple[int, float]] = []
        self.path = out / f"{name}.checkpoint.pt"
        if self.path.exists():
            self._load(torch.load(self.path, weights_only=True))

    def _load(self, state: dict[str, object]) -> None:
        for key, network in self.networks.items():
            network.load_state_dict(state["networks"][key])  # type: ignore[index]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):  # type: ignore[call-overload]
            optimizer.load_state_dict(saved)
        self.step, self.seconds, self.log = state["step"], state["seconds"], state["log"]  # type: ignore[assignment]

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
        self.record()

    def train(
        self, loss_of: Callable[[int], Tensor], after: Callable[[int], None] | None = None
    ) -> None:
        """Train to the last step: warm-up, then constant, then a linear fall to zero."""
        bar = tqdm(total=self.steps, initial=self.step, desc=self.name, mininterval=10)
        started, saved, mean = time.monotonic() - self.seconds, time.monotonic(), 0.0
        first = self.step
        while self.step < self.steps:
            self._set_rates()
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
            self.seconds = time.monotonic() - started
            if self.step % 50 == 0:
                self.log.append((self.step, round(mean / (1 - 0.98 ** (self.step - first)), 5)))
                bar.set_postfix(loss=f"{self.log[-1][1]:.4f}")
            if time.monotonic() - saved > CHECKPOINT_SECONDS or self.step == self.steps:
                self.save()
                saved = time.monotonic()
        bar.close()

    def _set_rates(self) -> None:
        """A warm-up of 100 steps, and a fall over the last 40 % of the run."""
        factor = min(1.0, (self.step + 1) / 100, (self.steps - self.step) / (0.4 * self.steps))
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor

    def record(self) -> None:
        """Add steps, seconds and loss curve to ``training.json``."""
        path = self.out / "training.json"
        record = json.loads(path.read_text()) if path.exists() else {}
        record[self.name] = {
            "steps": self.step,
            "seconds": round(self.seconds),
            "threads": torch.get_num_threads(),
            "loss": self.log[:: max(1, len(self.log) // 30)],
        }
        path.write_text(json.dumps(record, indent=1) + "\n")


def adamw(rate: float, *networks: nn.Module) -> Optimizers:
    """AdamW on all parameters."""
    parameters = [p for network in networks for p in network.parameters()]
    return [torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=1e-3)]


def muon_and_adamw(rate: float, *networks: nn.Module) -> Optimizers:
    """Muon on the matrices of attention and feed-forward, AdamW at half the rate on the rest."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for network in networks:
        for name, parameter in network.named_parameters():
            is_matrix = "blocks" in name and "norm" not in name and parameter.ndim == 2
            (matrices if is_matrix else rest).append(parameter)
    muon = torch.optim.Muon(
        matrices, lr=rate, adjust_lr_fn="match_rms_adamw", weight_decay=1e-2, ns_steps=3
    )
    return [muon, torch.optim.AdamW(rest, lr=rate / 2, betas=(0.9, 0.98), weight_decay=1e-3)]


def save_weights(network: nn.Module, path: Path) -> None:
    """Half-precision safetensors; counters and other integers keep their type."""
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous().clone()
        for name, value in network.state_dict().items()
    }
    save_file(state, path)
