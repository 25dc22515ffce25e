"""The training stages that read captions: text encoders, teacher and student."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from npcorrect.mini.accuracy import Setting, accuracy, draw
from npcorrect.mini.autoencoder import CODE
from npcorrect.mini.bench import make
from npcorrect.mini.cell_stages import load_codec
from npcorrect.mini.codec import CellCodec
from npcorrect.mini.examples import stream
from npcorrect.mini.labels import (
    CELL_CLASSES,
    EMPTY,
    MAX_TOTAL,
    WORD_CLASSES,
    reading_loss,
    word_loss,
)
from npcorrect.mini.language import MAX_TOKENS, TOKEN_IDS, Spec, kind_token
from npcorrect.mini.model import (
    POOLED_WIDTH,
    SHIFT,
    assemble,
    build_text_encoders,
    build_transformer,
)
from npcorrect.mini.parts import TEXT_WIDTH, load_weights
from npcorrect.mini.renderer import Renderer
from npcorrect.mini.scene import COLORS, GRID, GROUNDS, KINDS, SIZES
from npcorrect.mini.things import THINGS
from npcorrect.mini.training_run import TrainingRun, adamw, autocast, muon_and_adamw, save_weights
from npcorrect.mini.training_settings import TrainingSettings

EMPTY_CAPTIONS = 0.1
"""Share of empty captions, for classifier-free guidance."""
PROBE_WEIGHT = 0.2
GUIDANCE_RANGE = (1.0, 5.0)
"""Guidance scales that the student learns."""
TEACHER_SCALE = 2.5
"""Guidance scale at which the teacher's accuracy is measured."""
TUNING_SEED = 7
"""Of the prompts on which accuracy is followed; the benchmark has others."""
EMA = 0.999
VARIANTS = 4
"""Displacements of each cell in the codebook."""


class Codebook(nn.Module):
    """The codes of every cell that can be drawn, so that training never renders."""

    things: Tensor
    empty: Tensor

    def __init__(self, codec: CellCodec, renderer: Renderer) -> None:
        super().__init__()
        axes = (len(KINDS), len(COLORS), len(SIZES), len(GROUNDS))
        ranges = [torch.arange(length, device=renderer.bank.device) for length in axes]
        labels = torch.cartesian_prod(*ranges).repeat_interleave(VARIANTS, 0)
        codes = [
            codec.encode_cells(renderer(part, renderer.random_shifts(len(part))))
            for part in labels.split(4096)
        ]
        self.register_buffer("things", torch.cat(codes).view(*axes, VARIANTS, CODE))
        bare = torch.zeros(len(GROUNDS), 4, dtype=torch.long, device=renderer.bank.device)
        bare[:, 0], bare[:, 3] = EMPTY, ranges[3]
        self.register_buffer("empty", codec.encode_cells(renderer(bare)))

    def forward(self, labels: Tensor) -> Tensor:
        """Codes ``(..., CODE)`` of cells with these labels ``(..., 4)``, randomly displaced."""
        kind, color, size, ground = labels.unbind(-1)
        variant = torch.randint_like(kind, VARIANTS)
        empty = kind == EMPTY
        codes = self.things[kind.masked_fill(empty, 0), color, size, ground, variant]
        return torch.where(empty[..., None], self.empty[ground], codes)


def train_text(settings: TrainingSettings, out: Path) -> None:
    """Teach both encoders what captions mean, before any picture is seen."""
    words, pooled = (encoder.to(settings.device) for encoder in build_text_encoders())
    nouns = nn.Linear(TEXT_WIDTH, sum(WORD_CLASSES)).to(settings.device)
    whole = nn.Linear(POOLED_WIDTH, len(THINGS) + MAX_TOTAL + 1).to(settings.device)
    networks = {"words": words, "pooled": pooled, "nouns": nouns, "whole": whole}
    run = TrainingRun("text", out, settings.text, networks, adamw(1.5e-3, *networks.values()))
    noun_ids = torch.tensor(
        [TOKEN_IDS[kind_token(name)] for name in THINGS], device=settings.device
    )
    examples = stream(settings, run.step)

    def loss_of(step: int) -> Tensor:
        _, ids, labels, named, totals = next(examples)
        states = words(ids).last_hidden_state[torch.isin(ids, noun_ids)]
        kinds, total = whole(pooled(ids).pooler_output).split((len(THINGS), MAX_TOTAL + 1), dim=-1)
        return (
            word_loss(nouns(states), labels)
            + 20 * F.binary_cross_entropy_with_logits(kinds, named)
            + 0.5 * F.cross_entropy(total, totals)
        )

    run.train(loss_of)
    save_weights(words, out / "text_encoder_2.safetensors")
    save_weights(pooled, out / "text_encoder.safetensors")


class FlowTask:
    """Rectified flow (arXiv 2403.03206) from noise to the codes of scenes, under captions."""

    def __init__(self, settings: TrainingSettings, out: Path) -> None:
        self.settings = settings
        self.words, self.pooled = build_text_encoders()
        load_weights(self.words, out / "text_encoder_2.safetensors")
        load_weights(self.pooled, out / "text_encoder.safetensors")
        for encoder in (self.words, self.pooled):
            encoder.to(settings.device).eval().requires_grad_(False)
        codec = load_codec(settings, out / "encoder.safetensors")
        self.codebook = Codebook(codec, Renderer().to(settings.device))
        self.empty = torch.tensor([Spec().token_ids()], device=settings.device)
        rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], -1).view(-1, 3)
        self.image_ids = places.to(settings.device)
        self.text_ids = torch.zeros(MAX_TOKENS, 3, device=settings.device)

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
        """The velocity of ``noisy`` ``(B, 9, CODE)`` at times ``t`` ``(B,)`` in 0..1."""
        with autocast(self.settings.device):
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
        return velocity.float()

    def record_accuracy(self, flux: nn.Module, setting: Setting, out: Path, name: str) -> None:
        """Add the judge's shares of right first pictures to ``accuracy.json``, under a name."""
        modules = {
            "transformer": flux,
            "text_encoder": self.pooled,
            "text_encoder_2": self.words,
            "vae": load_codec(self.settings, out / "vae.safetensors"),
        }
        samples = make(TUNING_SEED)[::4]
        shares = accuracy(samples, list(draw(assemble(modules), samples, setting)))
        path = out / "accuracy.json"
        record = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(record | {name: shares}, indent=1) + "\n")


def averaged(flux: FluxTransformer2DModel, decay: float) -> torch.optim.swa_utils.AveragedModel:
    """An exponential moving average of a network's parameters."""
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    return torch.optim.swa_utils.AveragedModel(flux, multi_avg_fn=average, use_buffers=True)


def train_teacher(settings: TrainingSettings, out: Path) -> None:
    """Flow matching, with a probe that keeps each cell's token aware of what it shows."""
    task = FlowTask(settings, out)
    flux = build_transformer(guidance_embeds=False).to(settings.device)
    probe = nn.Linear(flux.inner_dim, sum(CELL_CLASSES)).to(settings.device)
    average = averaged(flux, EMA)
    networks = {"flux": flux, "probe": probe, "average": average}
    optimizers = muon_and_adamw(3e-3, flux, probe, spared="norm", ns_steps=3)
    run = TrainingRun("teacher", out, settings.teacher, networks, optimizers)
    seen: list[Tensor] = []
    flux.single_transformer_blocks[2].register_forward_hook(
        lambda _module, _inputs, output: seen.append(output[1])
    )
    examples = stream(settings, run.step)
    torch.manual_seed(settings.seed + run.step)

    def loss_of(step: int) -> Tensor:
        labels, ids, *_ = next(examples)
        clean = task.codebook(labels)
        noise, t, noisy = task.noised(clean)
        seen.clear()
        velocity = task.velocity(flux, noisy, t, task.encode(task.drop_captions(ids)))
        meaning = reading_loss(probe(seen[0].float()).flatten(0, 1), labels.flatten(0, 1))
        return F.mse_loss(velocity, noise - clean) + PROBE_WEIGHT * meaning

    setting = Setting(true_cfg_scale=TEACHER_SCALE)

    def after(step: int) -> None:
        average.update_parameters(flux)
        if step % 2000 == 0 or step == settings.teacher:
            save_weights(average.module, out / "teacher.safetensors")
            task.record_accuracy(average.module, setting, out, f"teacher/{step}")

    run.train(loss_of, after)


def train_student(settings: TrainingSettings, out: Path) -> None:
    """Distil guidance (arXiv 2210.03142): the guided prediction of the teacher in one evaluation.

    The student begins as the teacher, with a guidance embedding whose last layer is zero.
    """
    task = FlowTask(settings, out)
    teacher = build_transformer(guidance_embeds=False)
    load_weights(teacher, out / "teacher.safetensors")
    teacher.to(settings.device).eval().requires_grad_(False)
    student = build_transformer(guidance_embeds=True).to(settings.device)
    student.load_state_dict(teacher.state_dict(), strict=False)
    last = student.time_text_embed.guidance_embedder.linear_2
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    average = averaged(student, 0.99)
    networks = {"student": student, "average": average}
    run = TrainingRun("student", out, settings.student, networks, adamw(4e-4, student))
    examples = stream(settings, run.step)
    torch.manual_seed(settings.seed + 2 + run.step)

    def loss_of(step: int) -> Tensor:
        labels, ids, *_ = next(examples)
        ids = task.drop_captions(ids)
        _, t, noisy = task.noised(task.codebook(labels))
        scale = torch.empty(len(ids), device=settings.device).uniform_(*GUIDANCE_RANGE)
        with torch.no_grad():
            text = task.encode(ids)
            with_text = task.velocity(teacher, noisy, t, text)
            without = task.velocity(teacher, noisy, t, task.encode(task.empty.expand_as(ids)))
            guided = without + scale[:, None, None] * (with_text - without)
        return F.mse_loss(task.velocity(student, noisy, t, text, scale), guided)

    def after(step: int) -> None:
        average.update_parameters(student)
        if step % 100 == 0 or step == settings.student:
            save_weights(average.module, out / "transformer.safetensors")
        if step == settings.student:
            task.record_accuracy(average.module, Setting(), out, f"student/{step}")

    run.train(loss_of, after)
