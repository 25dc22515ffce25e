"""How the embedded weights were made: ``python -m npcorrect.mini.train --out DIR``.

Four stages, each resumed from its checkpoint in ``DIR`` and skipped once finished:

1. ``codec``: the latent autoencoder, on rendered scenes;
2. ``text``: both text encoders, on what each word and each caption means, then frozen;
3. ``transformer``: rectified flow (arXiv 2403.03206) on captions with habits and mistakes;
4. ``reader``: the network through which the in-loop verifier sees.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import FluxTransformer2DModel
from PIL import Image
from torch import Tensor, nn

from npcorrect.mini.autoencoder import LATENT_CHANNELS
from npcorrect.mini.codec import MiniCodec
from npcorrect.mini.data import TAGS, sample_pair, sample_spec
from npcorrect.mini.family import MAX_TOKENS
from npcorrect.mini.grammar import PLURALS, RELATIONS, Spec
from npcorrect.mini.model import POOLED_WIDTH, SHIFT, assemble, build_modules, build_tokenizer
from npcorrect.mini.network import ReaderNetwork, cell_labels, reading_loss
from npcorrect.mini.parts import TEXT_WIDTH, load_weights
from npcorrect.mini.scene import COLORS, GRID, IMAGE_SIZE, SHAPES, SIZES, Scene, render
from npcorrect.mini.tensors import pack, to_pixels
from npcorrect.mini.training_run import (
    TrainingRun,
    adamw,
    autocast,
    muon_and_adamw,
    run_stages,
    save_weights,
)

POOL = 40_000
"""Scenes held in memory; the pool is drawn anew every :data:`POOL_LIFE` steps."""
POOL_LIFE = 2_000
EMPTY_CAPTIONS = 0.1
"""Share of empty captions, for classifier-free guidance."""
AUXILIARY_WEIGHT = 0.3
EMA = 0.999


@dataclass(frozen=True)
class Plan:
    """Steps of each stage, those of the shipped weights, and how the work is laid out."""

    codec: int = 2_400
    text: int = 800
    transformer: int = 9_000
    reader: int = 1_200
    batch: int = 128
    device: str = "cpu"
    seed: int = 0


class Pool:
    """Rendered, encoded training pairs, renewed as training goes on."""

    def __init__(self, codec: MiniCodec, plan: Plan) -> None:
        self.codec, self.plan, self.tokenizer = codec.eval(), plan, build_tokenizer()
        self.age: int | None = None

    def refresh(self, step: int) -> None:
        """Draw the pool that belongs to this step, so that a resumed run goes on as it was."""
        age = step // POOL_LIFE
        if age == self.age:
            return
        self.age = age
        rng = random.Random(f"{self.plan.seed}/{age}")
        tokens, labels, captions = [], [], []
        for _ in range(POOL // 500):
            pairs = [sample_pair(rng) for _ in range(500)]
            pixels = torch.from_numpy(np.stack([render(scene) for scene, _ in pairs]))
            with torch.no_grad(), autocast(self.plan.device):
                latents = self.codec.encode(to_pixels(pixels.to(self.plan.device)))
            tokens.append(pack(latents.float()))
            labels += [cell_labels(scene) for scene, _ in pairs]
            captions += [spec.text() for _, spec in pairs]
        self.tokens = torch.cat(tokens)
        self.labels = torch.stack(labels).to(self.plan.device)
        self.captions = self.token_ids(captions)

    def token_ids(self, captions: list[str]) -> Tensor:
        """The token ids of captions, padded to ``(B, MAX_TOKENS)``, on the plan's device."""
        batch = self.tokenizer(
            captions, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt"
        )
        ids: Tensor = batch.input_ids.to(self.plan.device)
        return ids


def train_codec(plan: Plan, out: Path) -> None:
    """Reconstruct pictures from noisy latents; a linear probe keeps the latents meaningful."""
    codec = MiniCodec().to(plan.device)
    probe = CellHeads(4 * LATENT_CHANNELS).to(plan.device)
    networks = {"vae": codec, "probe": probe}
    stage = TrainingRun("codec", out, plan.codec, networks, adamw(2e-3, codec, probe))
    rng = random.Random(plan.seed)
    scenes = [sample_pair(rng)[0] for _ in range(POOL // 2)]
    pictures = torch.from_numpy(np.stack([render(scene) for scene in scenes]))
    labels = torch.stack([cell_labels(scene) for scene in scenes]).to(plan.device)

    def loss_of(step: int) -> Tensor:
        chosen = torch.randint(len(pictures), (plan.batch,))
        pixels = to_pixels(pictures[chosen].to(plan.device))
        with autocast(plan.device):
            latents = codec.encode(pixels)
            noisy = latents + 0.1 * torch.randn_like(latents)
            drawn = codec.decode(noisy).sample.float()
            meaning = reading_loss(probe(pack(noisy)).float(), labels[chosen])
        return F.l1_loss(drawn, pixels) + 2 * F.mse_loss(drawn, pixels) + 0.02 * meaning

    stage.train(loss_of)
    finish(stage, {"vae": codec})


class CellHeads(nn.Module):
    """Linear probes from a cell's token to its shape (or emptiness), colour and size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, len(SHAPES) + 1 + len(COLORS) + len(SIZES))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens ``(B, cells, width)`` to logits ``(B, cells, classes)``."""
        logits: Tensor = self.linear(tokens)
        return logits


def word_labels(spec: Spec) -> list[tuple[int, int, int, int]]:
    """For each noun in order of appearance: count, colour, size, and side of the relation."""
    labels = []
    for i, group in enumerate(spec.groups):
        side = 1 + RELATIONS.index(spec.relation) + len(RELATIONS) * i if spec.relation else 0
        color = 1 + tuple(COLORS).index(group.color) if group.color else 0
        size = 1 + SIZES.index(group.size) if group.size else 0
        labels.append((group.count or 0, color, size, side))
    return labels


def train_text(plan: Plan, out: Path) -> None:
    """Teach both encoders what captions mean, before any picture is seen."""
    modules = build_modules()
    t5, clip = modules["text_encoder_2"].to(plan.device), modules["text_encoder"].to(plan.device)
    sizes = (10, len(COLORS) + 1, len(SIZES) + 1, 2 * len(RELATIONS) + 1)
    words = nn.Linear(TEXT_WIDTH, sum(sizes)).to(plan.device)
    whole = nn.Linear(POOLED_WIDTH, len(SHAPES) * 11).to(plan.device)
    networks = {"t5": t5, "clip": clip, "words": words, "whole": whole}
    stage = TrainingRun("text", out, plan.text, networks, adamw(1.5e-3, *networks.values()))
    tokenizer = build_tokenizer()
    nouns = torch.tensor([tokenizer.convert_tokens_to_ids(w) for w in (*SHAPES, *PLURALS.values())])
    rng = random.Random(plan.seed + stage.step)

    def loss_of(step: int) -> Tensor:
        specs = [sample_pair(rng)[1] for _ in range(plan.batch)]
        batch = tokenizer(
            [spec.text() for spec in specs],
            padding="max_length",
            max_length=MAX_TOKENS,
            return_tensors="pt",
        ).to(plan.device)
        states = t5(batch.input_ids).last_hidden_state
        at_nouns = states[torch.isin(batch.input_ids, nouns.to(plan.device))]
        labels = torch.tensor([label for spec in specs for label in word_labels(spec)])
        logits = words(at_nouns).split(sizes, dim=-1)
        loss = sum(
            (F.cross_entropy(part, labels[:, i].to(plan.device)) for i, part in enumerate(logits)),
            start=torch.zeros((), device=plan.device),
        )
        pooled = whole(clip(batch.input_ids).pooler_output).view(-1, len(SHAPES), 11)
        counts = torch.tensor([[_count_label(spec, shape) for shape in SHAPES] for spec in specs])
        return loss + F.cross_entropy(pooled.flatten(0, 1), counts.flatten().to(plan.device))

    stage.train(loss_of)
    finish(stage, {"text_encoder_2": t5, "text_encoder": clip})


def _count_label(spec: Spec, shape: str) -> int:
    """0: not named; 1: named without a count; 1 + n: named n times."""
    for group in spec.groups:
        if group.shape == shape:
            return 1 + (group.count or 0)
    return 0


class FlowTask:
    """What the transformer learns: the velocity from noise to a pool's latents, under captions."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self.plan = plan
        self.modules = build_modules()
        for name in ("vae", "text_encoder", "text_encoder_2"):
            load_weights(self.modules[name], out / f"{name}.safetensors")
            self.modules[name].to(plan.device).eval().requires_grad_(False)
        codec, flux = self.modules["vae"], self.modules["transformer"].to(plan.device)
        assert isinstance(codec, MiniCodec)
        assert isinstance(flux, FluxTransformer2DModel)
        self.flux = flux
        width = flux.config.num_attention_heads * flux.config.attention_head_dim
        self.probe = CellHeads(width).to(plan.device)
        self.pool = Pool(codec, plan)
        self.empty = self.pool.token_ids([""])
        rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], -1).view(-1, 3)
        self.image_ids = places.to(plan.device)
        self.text_ids = torch.zeros(MAX_TOKENS, 3, device=plan.device)
        self.seen: list[Tensor] = []
        flux.single_transformer_blocks[2].register_forward_hook(
            lambda _module, _inputs, output: self.seen.append(output[1])
        )

    def loss(self, step: int) -> Tensor:
        """The squared error of the velocity plus the probe's weighted cross-entropy; a scalar."""
        self.pool.refresh(step)
        batch, device = self.plan.batch, self.plan.device
        chosen = torch.randint(len(self.pool.tokens), (batch,), device=device)
        clean, ids = self.pool.tokens[chosen], self.pool.captions[chosen]
        dropped = torch.rand(batch, 1, device=device) < EMPTY_CAPTIONS
        ids = torch.where(dropped, self.empty, ids)
        t = torch.sigmoid(torch.randn(batch, device=device))
        t = SHIFT * t / (1 + (SHIFT - 1) * t)
        noise = torch.randn_like(clean)
        with autocast(device):
            velocity = self.velocity(clean + t[:, None, None] * (noise - clean), t, ids)
            meaning = reading_loss(self.probe(self.seen[0]).float(), self.pool.labels[chosen])
        return F.mse_loss(velocity.float(), noise - clean) + AUXILIARY_WEIGHT * meaning

    def velocity(self, noisy: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """The transformer's prediction, ``(B, tokens, 4 C)``, from ``noisy`` of the same shape.

        ``t`` is ``(B,)`` in 0..1, ``ids`` ``(B, MAX_TOKENS)``.
        """
        self.seen.clear()
        with torch.no_grad():
            text = self.modules["text_encoder_2"](ids).last_hidden_state
            pooled = self.modules["text_encoder"](ids).pooler_output
        velocity: Tensor = self.flux(
            hidden_states=noisy,
            timestep=t,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            txt_ids=self.text_ids,
            img_ids=self.image_ids,
            return_dict=False,
        )[0]
        return velocity


def train_transformer(plan: Plan, out: Path) -> None:
    """Rectified flow on latents, with a probe that keeps each cell's token aware of its content."""
    task = FlowTask(plan, out)
    average = torch.optim.swa_utils.AveragedModel(
        task.flux, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA), use_buffers=True
    )
    networks = {"flux": task.flux, "probe": task.probe, "average": average}
    optimizers = muon_and_adamw(3e-3, task.flux, task.probe)
    stage = TrainingRun("transformer", out, plan.transformer, networks, optimizers)

    def after(step: int) -> None:
        average.update_parameters(task.flux)
        if step % 1000 == 0 or step == plan.transformer:
            sample_grid(task.modules | {"transformer": average.module}, out, step)
            save_weights(average.module, out / "transformer.safetensors")

    stage.train(task.loss, after)
    finish(stage, {"transformer": average.module})


def sample_grid(modules: dict[str, nn.Module], out: Path, step: int) -> None:
    """Seven rows, one a tag, of six pictures; the prompts are the same each time."""
    rng = random.Random(1)
    pipeline = assemble(modules)
    rows = []
    for tag in TAGS:
        prompts = [sample_spec(rng, tag).text() for _ in range(6)]
        pictures = pipeline(
            prompts,
            negative_prompt=[""] * len(prompts),
            true_cfg_scale=2.0,
            height=IMAGE_SIZE,
            width=IMAGE_SIZE,
            num_inference_steps=16,
            max_sequence_length=MAX_TOKENS,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images
        rows.append(np.concatenate(list(pictures), axis=1))
    Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(
        out / f"samples-{step:06d}.png"
    )


def train_reader(plan: Plan, out: Path) -> None:
    """Train the verifier's network on pictures as rendered, and as decoded from noisy latents."""
    codec = MiniCodec()
    load_weights(codec, out / "vae.safetensors")
    codec.to(plan.device).eval().requires_grad_(False)
    reader = ReaderNetwork().to(plan.device)
    stage = TrainingRun("reader", out, plan.reader, {"reader": reader}, adamw(1.5e-3, reader))
    rng = random.Random(plan.seed + 1 + stage.step)

    def loss_of(step: int) -> Tensor:
        scenes: list[Scene] = [sample_pair(rng)[0] for _ in range(plan.batch)]
        pixels = to_pixels(torch.from_numpy(np.stack([render(s) for s in scenes])).to(plan.device))
        half = plan.batch // 2
        with autocast(plan.device):
            latents = codec.encode(pixels[:half])
            blurred = codec.decode(latents + 0.2 * torch.randn_like(latents)).sample.float()
        seen = torch.cat([blurred, pixels[half:]])
        seen = seen + 0.05 * torch.rand(plan.batch, 1, 1, 1, device=plan.device) * torch.randn_like(
            seen
        )
        with autocast(plan.device):
            return reader.loss(seen, scenes)

    stage.train(loss_of)
    finish(stage, {"reader": reader})


def finish(stage: TrainingRun, networks: dict[str, nn.Module]) -> None:
    """Write the stage's weights, in half precision."""
    for name, network in networks.items():
        save_weights(network, stage.out / f"{name}.safetensors")


STAGES: dict[str, Callable[[Plan, Path], None]] = {
    "codec": train_codec,
    "text": train_text,
    "transformer": train_transformer,
    "reader": train_reader,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages that are asked for; all of them by default."""
    run_stages("npcorrect.mini.train", STAGES, Plan, arguments)


if __name__ == "__main__":
    main()
