"""How the embedded weights were made: ``python -m npcorrect.mini.everyday.train --out DIR``.

The stages of :data:`STAGES`, in this order, each resumed from its checkpoint in ``DIR`` and skipped
once finished.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from npcorrect.mini.everyday.codec import CODE, CellCodec, to_pixels
from npcorrect.mini.everyday.data import sample_pair
from npcorrect.mini.everyday.labels import (
    CELL_CLASSES,
    EMPTY,
    MAX_TOTAL,
    WORD_CLASSES,
    cell_labels,
    reading_loss,
    text_labels,
    word_labels,
    word_loss,
)
from npcorrect.mini.everyday.language import MAX_TOKENS, TOKEN_IDS, Spec, kind_token
from npcorrect.mini.everyday.model import (
    POOLED_WIDTH,
    SHIFT,
    TEXT_WIDTH,
    build_text_encoders,
    build_transformer,
    load_weights,
)
from npcorrect.mini.everyday.runs import Run, adamw, muon_and_adamw, save_weights
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
from npcorrect.mini.everyday.things import THINGS
from npcorrect.mini.everyday.verifier import CellReader

EMPTY_CAPTIONS = 0.1
"""Share of empty captions, for classifier-free guidance."""
PROBE_WEIGHT = 0.2
GUIDANCE_RANGE = (1.0, 5.0)
"""Guidance scales that the student learns."""
EMA = 0.998
VARIANTS = 4
"""Displacements of each cell in the codebook."""


@dataclass(frozen=True)
class Plan:
    """Steps of each stage, and how the work is laid out."""

    encoder: int = 1_500
    text: int = 800
    decoder: int = 3_000
    teacher: int = 6_000
    student: int = 700
    verifier: int = 1_500
    batch: int = 128
    device: str = "cpu"
    seed: int = 0


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
    run = Run("encoder", out, plan.encoder, networks, adamw(2e-3, *networks.values()))
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
    codec = CellCodec()
    load_weights(codec, out / "encoder.safetensors")
    codec.to(plan.device).eval().requires_grad_(False)
    return codec


class Codebook:
    """The codes of every cell that can be drawn, so that training never renders."""

    def __init__(self, codec: CellCodec, plan: Plan, out: Path) -> None:
        path = out / "codebook.pt"
        if path.exists():
            self.things, self.empty = torch.load(path, weights_only=True)
        else:
            self.things, self.empty = self._encode(codec, random.Random(plan.seed))
            torch.save((self.things, self.empty), path)

    @staticmethod
    def _encode(codec: CellCodec, rng: random.Random) -> tuple[Tensor, Tensor]:
        def encode(cells: Sequence[tuple[Thing | None, str]]) -> Tensor:
            pixels = to_pixels(torch.from_numpy(np.stack([draw_cell(*cell) for cell in cells])))
            with torch.no_grad():
                return codec.encode_cells(pixels.to(codec.device)).cpu()

        kinds = []
        for kind in KINDS:
            cells = [
                (Thing(0, 0, kind, color, size, *_jitter(rng)), ground)
                for color in COLORS
                for size in SIZES
                for ground in GROUNDS
                for _ in range(VARIANTS)
            ]
            codes = encode(cells)
            kinds.append(codes.view(len(COLORS), len(SIZES), len(GROUNDS), VARIANTS, CODE))
        return torch.stack(kinds), encode([(None, ground) for ground in GROUNDS])

    def codes(self, labels: Tensor) -> Tensor:
        """Codes ``(..., CODE)`` of cells with these labels ``(..., 4)``, randomly displaced."""
        kind, color, size, ground = labels.unbind(-1)
        variant = torch.randint(VARIANTS, kind.shape)
        codes = self.things[kind.clamp(max=EMPTY - 1), color, size, ground, variant]
        return torch.where((kind == EMPTY)[..., None], self.empty[ground], codes)


def _jitter(rng: random.Random) -> tuple[int, int]:
    return rng.randint(-JITTER, JITTER), rng.randint(-JITTER, JITTER)


def train_text(plan: Plan, out: Path) -> None:
    """Teach both encoders what captions mean, before any picture is seen."""
    words, pooled = (encoder.to(plan.device) for encoder in build_text_encoders())
    nouns = nn.Linear(TEXT_WIDTH, sum(WORD_CLASSES)).to(plan.device)
    whole = nn.Linear(POOLED_WIDTH, len(KINDS) + MAX_TOTAL + 1).to(plan.device)
    networks = {"words": words, "pooled": pooled, "nouns": nouns, "whole": whole}
    run = Run("text", out, plan.text, networks, adamw(1.5e-3, *networks.values()))
    noun_ids = torch.tensor([TOKEN_IDS[kind_token(name)] for name in THINGS], device=plan.device)
    rng = random.Random(plan.seed + run.step)

    def loss_of(step: int) -> Tensor:
        specs = [sample_pair(rng)[1] for _ in range(2 * plan.batch)]
        specs = [spec for spec in specs if len(spec.tokens()) < MAX_TOKENS]
        ids = torch.tensor([spec.token_ids() for spec in specs], device=plan.device)
        states = words(ids).last_hidden_state[torch.isin(ids, noun_ids)]
        labels = [label for spec in specs for label in word_labels(spec)]
        named, totals = zip(*map(text_labels, specs), strict=True)
        kinds, total = whole(pooled(ids).pooler_output).split((len(KINDS), MAX_TOTAL + 1), dim=-1)
        return (
            word_loss(nouns(states), torch.tensor(labels, device=plan.device))
            + 20 * F.binary_cross_entropy_with_logits(kinds, torch.tensor(named).to(kinds))
            + 0.5 * F.cross_entropy(total, torch.tensor(totals, device=plan.device))
        )

    run.train(loss_of)
    save_weights(words, out / "text_encoder_2.safetensors")
    save_weights(pooled, out / "text_encoder.safetensors")


class FlowTask:
    """Rectified flow (arXiv 2403.03206) from noise to the codes of scenes, under captions."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self.plan = plan
        self.words, self.pooled = build_text_encoders()
        load_weights(self.words, out / "text_encoder_2.safetensors")
        load_weights(self.pooled, out / "text_encoder.safetensors")
        for encoder in (self.words, self.pooled):
            encoder.to(plan.device).eval().requires_grad_(False)
        self.codebook = Codebook(load_encoder(plan, out), plan, out)
        self.empty = torch.tensor([Spec().token_ids()], device=plan.device)
        rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], -1).view(-1, 3)
        self.image_ids = places.to(plan.device)
        self.text_ids = torch.zeros(MAX_TOKENS, 3, device=plan.device)

    def batch(self, rng: random.Random) -> tuple[Tensor, Tensor, Tensor]:
        """Clean codes ``(B, 9, CODE)``, labels ``(B, 9, 4)`` and token ids of captions."""
        pairs = [sample_pair(rng) for _ in range(self.plan.batch)]
        labels = torch.tensor([cell_labels(scene) for scene, _ in pairs])
        ids = torch.tensor([spec.token_ids() for _, spec in pairs])
        device = self.plan.device
        return self.codebook.codes(labels).to(device), labels.to(device), ids.to(device)

    def drop_captions(self, ids: Tensor) -> Tensor:
        """Some captions replaced by the empty one."""
        dropped = torch.rand(len(ids), 1, device=ids.device) < EMPTY_CAPTIONS
        return torch.where(dropped, self.empty, ids)

    def noised(self, clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noise, times (logit-normal, shifted towards noise), and what lies between."""
        t = torch.sigmoid(torch.randn(len(clean), device=clean.device))
        t = SHIFT * t / (1 + (SHIFT - 1) * t)
        noise = torch.randn_like(clean)
        return noise, t, clean + t[:, None, None] * (noise - clean)

    def encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """States of the words, and the pooled vector."""
        with torch.no_grad():
            return self.words(ids).last_hidden_state, self.pooled(ids).pooler_output

    def velocity(
        self,
        flux: FluxTransformer2DModel,
        noisy: Tensor,
        t: Tensor,
        text: tuple[Tensor, Tensor],
        guidance: Tensor | None = None,
    ) -> Tensor:
        """The transformer's prediction, ``(B, 9, CODE)``."""
        velocity: Tensor = flux(
            hidden_states=noisy,
            timestep=t,
            guidance=guidance,
            encoder_hidden_states=text[0],
            pooled_projections=text[1],
            txt_ids=self.text_ids,
            img_ids=self.image_ids,
            return_dict=False,
        )[0]
        return velocity


def averaged(flux: FluxTransformer2DModel, decay: float) -> torch.optim.swa_utils.AveragedModel:
    """An exponential moving average of a network's parameters."""
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    return torch.optim.swa_utils.AveragedModel(flux, multi_avg_fn=average, use_buffers=True)


def train_teacher(plan: Plan, out: Path) -> None:
    """Flow matching, with a probe that keeps each cell's token aware of what it shows."""
    task = FlowTask(plan, out)
    flux = build_transformer(guidance_embeds=False).to(plan.device)
    probe = nn.Linear(flux.inner_dim, sum(CELL_CLASSES)).to(plan.device)
    average = averaged(flux, EMA)
    networks = {"flux": flux, "probe": probe, "average": average}
    run = Run("teacher", out, plan.teacher, networks, muon_and_adamw(3e-3, flux, probe))
    seen: list[Tensor] = []
    flux.single_transformer_blocks[2].register_forward_hook(
        lambda _module, _inputs, output: seen.append(output[1])
    )
    rng = random.Random(plan.seed + run.step)
    torch.manual_seed(plan.seed + run.step)

    def loss_of(step: int) -> Tensor:
        clean, labels, ids = task.batch(rng)
        noise, t, noisy = task.noised(clean)
        seen.clear()
        velocity = task.velocity(flux, noisy, t, task.encode(task.drop_captions(ids)))
        meaning = reading_loss(probe(seen[0]).flatten(0, 1), labels.flatten(0, 1))
        return F.mse_loss(velocity, noise - clean) + PROBE_WEIGHT * meaning

    def after(step: int) -> None:
        average.update_parameters(flux)
        if step % 500 == 0 or step == plan.teacher:
            save_weights(average.module, out / "teacher.safetensors")

    run.train(loss_of, after)


def train_decoder(plan: Plan, out: Path) -> None:
    """Crisp cells from noisy codes: squared and absolute error of pixels, and of their edges."""
    codec = load_encoder(plan, out)
    codec.decoder.requires_grad_(True)
    run = Run("decoder", out, plan.decoder, {"decoder": codec.decoder}, adamw(2e-3, codec.decoder))
    rng = random.Random(plan.seed + 1 + run.step)
    torch.manual_seed(plan.seed + run.step)

    def loss_of(step: int) -> Tensor:
        cells = [cell for _ in range(plan.batch // 16) for cell in random_picture(rng)]
        images = np.stack([draw_cell(*cell) for cell in cells])
        pixels = to_pixels(torch.from_numpy(images).to(plan.device))
        with torch.no_grad():
            codes = codec.encode_cells(pixels).view(-1, GRID**2, CODE)
        noise = 0.35 * torch.rand(len(codes), 1, 1, device=plan.device)
        drawn = codec.decode_cells(codes + noise * torch.randn_like(codes))
        return picture_loss(drawn, pixels)

    def after(step: int) -> None:
        if step % 250 == 0 or step == plan.decoder:
            save_weights(codec, out / "vae.safetensors")

    run.train(loss_of, after)


def random_picture(rng: random.Random) -> list[tuple[Thing | None, str]]:
    """Nine cells on one ground, most of them full."""
    ground = rng.choice(tuple(GROUNDS))
    full = rng.choice((0.3, 0.9))
    cells = [random_cell(rng)[0] for _ in range(GRID**2)]
    return [(thing if rng.random() < full else None, ground) for thing in cells]


def picture_loss(drawn: Tensor, pixels: Tensor) -> Tensor:
    """Errors of pixels, and of the differences between neighbouring pixels."""
    edges = [
        F.l1_loss(torch.diff(drawn, dim=axis), torch.diff(pixels, dim=axis)) for axis in (2, 3)
    ]
    return F.mse_loss(drawn, pixels) + 0.5 * F.l1_loss(drawn, pixels) + torch.stack(edges).sum()


def train_student(plan: Plan, out: Path) -> None:
    """Distil guidance (arXiv 2210.03142): the guided prediction of the teacher in one evaluation.

    The student begins as the teacher, with a guidance embedding whose last layer is zero.
    """
    task = FlowTask(plan, out)
    teacher = build_transformer(guidance_embeds=False)
    load_weights(teacher, out / "teacher.safetensors")
    teacher.to(plan.device).eval().requires_grad_(False)
    student = build_transformer(guidance_embeds=True).to(plan.device)
    student.load_state_dict(teacher.state_dict(), strict=False)
    last = student.time_text_embed.guidance_embedder.linear_2
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    average = averaged(student, 0.99)
    networks = {"student": student, "average": average}
    run = Run("student", out, plan.student, networks, adamw(4e-4, student))
    rng = random.Random(plan.seed + 2 + run.step)
    torch.manual_seed(plan.seed + 2 + run.step)

    def loss_of(step: int) -> Tensor:
        clean, _, ids = task.batch(rng)
        ids = task.drop_captions(ids)
        _, t, noisy = task.noised(clean)
        scale = torch.empty(len(ids), device=plan.device).uniform_(*GUIDANCE_RANGE)
        with torch.no_grad():
            text = task.encode(ids)
            with_text = task.velocity(teacher, noisy, t, text)
            without = task.velocity(teacher, noisy, t, task.encode(task.empty.expand_as(ids)))
            guided = without + scale[:, None, None] * (with_text - without)
        return F.mse_loss(task.velocity(student, noisy, t, text, scale), guided)

    def after(step: int) -> None:
        average.update_parameters(student)
        if step % 100 == 0 or step == plan.student:
            save_weights(average.module, out / "transformer.safetensors")

    run.train(loss_of, after)


def train_verifier(plan: Plan, out: Path) -> None:
    """The verifier's network: half rendered cells, half drawn from noisy codes; all disturbed."""
    codec = CellCodec()
    load_weights(codec, out / "vae.safetensors")
    codec.to(plan.device).eval().requires_grad_(False)
    reader = CellReader().to(plan.device)
    run = Run("verifier", out, plan.verifier, {"reader": reader}, adamw(1.5e-3, reader))
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


STAGES: dict[str, Callable[[Plan, Path], None]] = {
    "encoder": train_encoder,
    "text": train_text,
    "decoder": train_decoder,
    "teacher": train_teacher,
    "student": train_student,
    "verifier": train_verifier,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages that are asked for; all of them by default."""
    parser = argparse.ArgumentParser(
        prog="python -m npcorrect.mini.everyday.train", description="Train the miniature model."
    )
    parser.add_argument("--out", type=Path, default=Path("checkpoints"), help="folder to write to")
    parser.add_argument("--stage", choices=STAGES, nargs="+", default=list(STAGES))
    default_device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default_device, help="cpu or cuda")
    for name in STAGES:
        default = getattr(Plan(), name)
        parser.add_argument(f"--{name}-steps", type=int, default=default, metavar="N")
    parser.add_argument("--batch", type=int, default=Plan().batch)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    steps = {name: getattr(options, f"{name}_steps") for name in STAGES}
    plan = Plan(**steps, batch=options.batch, device=options.device, seed=options.seed)
    torch.manual_seed(options.seed)
    for name in options.stage:
        STAGES[name](plan, options.out)


if __name__ == "__main__":
    main()
