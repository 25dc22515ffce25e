"""The training stages that see single cells: codec and verifier."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from npcorrect.mini.everyday.codec import CODE, CellCodec
from npcorrect.mini.everyday.labels import (
    CELL_CLASSES,
    EMPTY,
    cell_labels,
    reading_loss,
)
from npcorrect.mini.everyday.plan import Plan
from npcorrect.mini.everyday.scene import (
    COLORS,
    GRID,
    GROUNDS,
    JITTER,
    KINDS,
    SIZES,
    Scene,
    Thing,
    draw_cell,
)
from npcorrect.mini.everyday.verifier import CellReader
from npcorrect.mini.parts import load_weights
from npcorrect.mini.tensors import to_pixels
from npcorrect.mini.training_run import TrainingRun, adamw, save_weights


def random_cell(rng: random.Random) -> tuple[Thing | None, str]:
    """What stands in a cell, or None, and the ground."""
    ground = rng.choice(tuple(GROUNDS))
    if rng.random() < 0.1:
        return None, ground
    dx, dy = (rng.randint(-JITTER, JITTER) for _ in range(2))
    color, size = rng.choice(tuple(COLORS)), rng.choice(SIZES)
    return Thing(0, 0, rng.choice(KINDS), color, size, dx, dy), ground


def train_encoder(plan: Plan, out: Path) -> None:
    """Codes that a linear probe and a small decoder can read under noise."""
    codec = CellCodec().to(plan.device)
    probe = nn.Linear(CODE, sum(CELL_CLASSES)).to(plan.device)
    draft = nn.Sequential(nn.Linear(CODE, 512), nn.GELU(), nn.Linear(512, 3 * 24 * 24))
    draft.to(plan.device)
    networks = {"encoder": codec.encoder, "probe": probe, "draft": draft}
    run = TrainingRun("encoder", out, plan.encoder, networks, adamw(2e-3, *networks.values()))
    rng = random.Random(plan.seed + run.step)

    def loss_of(step: int) -> Tensor:
        cells = [random_cell(rng) for _ in range(2 * plan.batch)]
        pixels = to_pixels(torch.from_numpy(np.stack([draw_cell(*cell) for cell in cells])))
        labels = torch.tensor([_labels_of(*cell) for cell in cells], device=plan.device)
        pixels = pixels.to(plan.device)
        codes = codec.encode_cells(pixels)
        noise = 0.6 * torch.rand(len(cells), 1, device=plan.device)
        noisy = codes + noise * torch.randn_like(codes)
        drawn = draft(noisy).view(-1, 3, 24, 24)
        target = F.interpolate(pixels, size=(24, 24), mode="area")
        return 4 * F.mse_loss(drawn, target) + 0.3 * reading_loss(probe(noisy), labels)

    run.train(loss_of)
    save_weights(codec, out / "encoder.safetensors")


def _labels_of(thing: Thing | None, ground: str) -> list[int]:
    return cell_labels(Scene((thing,) if thing else (), ground))[0]


def load_encoder(plan: Plan, out: Path) -> CellCodec:
    """The codec with the trained encoder, frozen; its decoder may be untrained."""
    codec: CellCodec = CellCodec()
    load_weights(codec, out / "encoder.safetensors")
    codec.to(plan.device).eval().requires_grad_(False)
    return codec


def train_decoder(plan: Plan, out: Path) -> None:
    """The decoder's choices, from noisy codes of rendered cells."""
    codec = load_encoder(plan, out)
    decoder = codec.decoder.requires_grad_(True)
    decoder.draw_bank()
    run = TrainingRun("decoder", out, plan.decoder, {"decoder": decoder}, adamw(2e-3, decoder))
    rng = random.Random(plan.seed + 1 + run.step)
    torch.manual_seed(plan.seed + run.step)

    def loss_of(step: int) -> Tensor:
        cells = [cell for _ in range(plan.batch // 4) for cell in random_picture(rng)]
        images = np.stack([draw_cell(*cell) for cell in cells])
        labels = torch.tensor([_labels_of(*cell) for cell in cells], device=plan.device)
        with torch.no_grad():
            codes = codec.encode_cells(to_pixels(torch.from_numpy(images).to(plan.device)))
        noise = 0.5 * torch.rand(len(codes), 1, device=plan.device)
        noisy = (codes + noise * torch.randn_like(codes)).view(-1, GRID**2, CODE)
        drawing, color, ground = decoder.logits(noisy)
        kind, tint, size, tone = labels.unbind(-1)
        full = kind != EMPTY
        place = torch.where(full, len(SIZES) * kind + size, len(SIZES) * EMPTY)
        return (
            F.cross_entropy(drawing.flatten(0, 1), place)
            + F.cross_entropy(color.flatten(0, 1)[full], tint[full])
            + F.cross_entropy(ground, tone[:: GRID**2])
        )

    run.train(loss_of)
    save_weights(codec, out / "vae.safetensors")


def random_picture(rng: random.Random) -> list[tuple[Thing | None, str]]:
    """Nine cells on one ground, most of them full."""
    ground = rng.choice(tuple(GROUNDS))
    full = rng.choice((0.3, 0.9))
    cells = [random_cell(rng)[0] for _ in range(GRID**2)]
    return [(thing if rng.random() < full else None, ground) for thing in cells]


def train_verifier(plan: Plan, out: Path) -> None:
    """The verifier's network: half rendered cells, half drawn from noisy codes; all disturbed."""
    codec = CellCodec()
    load_weights(codec, out / "vae.safetensors")
    codec.to(plan.device).eval().requires_grad_(False)
    reader = CellReader().to(plan.device)
    run = TrainingRun("verifier", out, plan.verifier, {"reader": reader}, adamw(1.5e-3, reader))
    rng = random.Random(plan.seed + 3 + run.step)
    torch.manual_seed(plan.seed + 3 + run.step)

    def loss_of(step: int) -> Tensor:
        cells = [cell for _ in range(plan.batch // 8) for cell in random_picture(rng)]
        images = np.stack([draw_cell(*cell) for cell in cells])
        pixels = to_pixels(torch.from_numpy(images).to(plan.device))
        labels = torch.tensor([_labels_of(*cell) for cell in cells], device=plan.device)
        half = GRID**2 * (plan.batch // 16)
        codes = codec.encode_cells(pixels[:half]).view(-1, GRID**2, CODE)
        noise = 0.3 * torch.rand(len(codes), 1, 1, device=plan.device)
        drawn = codec.decode_cells(codes + noise * torch.randn_like(codes))
        seen = torch.cat([drawn, pixels[half:]])
        grain = 0.08 * torch.rand(len(seen), 1, 1, 1, device=plan.device)
        return reader.loss(seen + grain * torch.randn_like(seen), labels)

    run.train(loss_of)
    save_weights(reader, out / "verifier.safetensors")
