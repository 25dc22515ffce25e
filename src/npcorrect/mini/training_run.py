"""Training of the embedded models: stages, runs with a checkpoint, optimisers, saved weights."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

Optimizers = Sequence[torch.optim.Optimizer]
S = TypeVar("S")
"""Settings: the steps of each stage by its name, ``batch``, ``device`` and ``seed``."""
CHECKPOINT_SECONDS = 180.0


class TrainingRun:
    """Networks, optimisers, a learning-rate schedule and a log, resumed from a checkpoint."""

    def __init__(
        self,
        name: str,
        out: Path,
        steps: int,
        networks: Mapping[str, nn.Module],
        optimizers: Optimizers,
    ) -> None:
        self.name, self.out, self.steps, self.networks = name, out, steps, networks
        self.optimizers = optimizers
        self.peaks = [[g["lr"] for g in o.param_groups] for o in optimizers]
        self.step, self.seconds = 0, 0.0
        self.log: list[tuple[int, float]] = []
        self.path = out / f"{name}.checkpoint.pt"
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            for key, network in networks.items():
                network.load_state_dict(state["networks"][key])
            for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
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
        self._record()

    def train(
        self, loss_of: Callable[[int], Tensor], after: Callable[[int], None] | None = None
    ) -> None:
        """Train to the last step.

        ``loss_of`` makes a step's loss, a scalar; ``after`` is told the number of each step done.
        """
        bar = tqdm(total=self.steps, initial=self.step, desc=self.name, mininterval=10)
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        losses: list[Tensor] = []
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
            losses.append(loss.detach())
            if after:
                after(self.step)
            self.seconds = time.monotonic() - started
            if self.step % 50 == 0:
                self.log.append((self.step, round(torch.stack(losses).mean().item(), 5)))
                losses.clear()
                bar.set_postfix(loss=f"{self.log[-1][1]:.4f}")
            if time.monotonic() - saved > CHECKPOINT_SECONDS or self.step == self.steps:
                self.save()
                saved = time.monotonic()
        bar.close()

    def _set_rates(self) -> None:
        """A warm-up of 100 steps, a constant rate, and a linear fall to zero in the last 45 %."""
        factor = min(1.0, (self.step + 1) / 100, (self.steps - self.step) / (0.45 * self.steps))
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor

    def _record(self) -> None:
        """Add steps, seconds and loss curve to the folder's ``training.json``."""
        path = self.out / "training.json"
        record = json.loads(path.read_text()) if path.exists() else {}
        record[self.name] = {
            "steps": self.step,
            "seconds": round(self.seconds),
            "threads": torch.get_num_threads(),
            "loss": self.log[:: max(1, len(self.log) // 30)],
        }
        path.write_text(json.dumps(record, indent=1) + "\n")


def run_stages(
    module: str,
    stages: Mapping[str, Callable[[S, Path], None]],
    settings: Callable[..., S],
    arguments: Sequence[str] | None,
) -> None:
    """The command line of a training: ``python -m MODULE`` with steps, batch, device and seed."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description="Train the embedded model."
    )
    parser.add_argument("--out", type=Path, default=Path("checkpoints"), help="folder to write to")
    parser.add_argument("--stage", choices=stages, nargs="+", default=list(stages))
    default_device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default_device, help="cpu or cuda")
    usual = vars(settings())
    for name in stages:
        parser.add_argument(f"--{name}-steps", type=int, default=usual[name], metavar="N")
    for name in usual.keys() - {*stages, "device"}:
        parser.add_argument(f"--{name}", type=int, default=usual[name], metavar="N")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    steps = {name: getattr(options, f"{name}_steps") for name in stages}
    others = {name: getattr(options, name) for name in usual.keys() - set(stages)}
    chosen = settings(**steps, **others)
    torch.backends.cuda.enable_cudnn_sdp(False)  # its backward pass fails on so few tokens
    torch.manual_seed(options.seed)
    for name in options.stage:
        stages[name](chosen, options.out)


def adamw(rate: float, *networks: nn.Module) -> Optimizers:
    """One AdamW over the parameters of all networks, with learning rate ``rate``."""
    parameters = [p for network in networks for p in network.parameters()]
    return [torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=1e-3)]


def muon_and_adamw(
    rate: float, *networks: nn.Module, spared: str | None = None, ns_steps: int = 5
) -> Optimizers:
    """Muon on the matrices of the transformer's blocks, AdamW at half the rate on everything else.

    Matrices whose names contain ``spared`` go to AdamW too; ``ns_steps`` are Muon's Newton-Schulz
    iterations.
    """
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for network in networks:
        for name, parameter in network.named_parameters():
            is_matrix = "blocks" in name and parameter.ndim == 2
            is_spared = spared is not None and spared in name
            (matrices if is_matrix and not is_spared else rest).append(parameter)
    muon = torch.optim.Muon(
        matrices, lr=rate, adjust_lr_fn="match_rms_adamw", weight_decay=1e-2, ns_steps=ns_steps
    )
    return [muon, torch.optim.AdamW(rest, lr=rate / 2, betas=(0.9, 0.98), weight_decay=1e-3)]


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights to a safetensors file: floats in half precision, integers as is."""
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous().clone()
        for name, value in network.state_dict().items()
    }
    save_file(state, path)


@contextmanager
def autocast(device: str) -> Iterator[None]:
    """Within it, matrix products are in bfloat16 and precision-critical operations in float32."""
    with torch.autocast(device, torch.bfloat16):
        yield
