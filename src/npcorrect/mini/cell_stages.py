"""The training stages that see single cells: codec and verifier."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from npcorrect.mini.autoencoder import CODE
from npcorrect.mini.codec import CellCodec
from npcorrect.mini.labels import CELL_CLASSES, reading_loss
from npcorrect.mini.parts import load_weights
from npcorrect.mini.renderer import Renderer, random_labels
from npcorrect.mini.scene import GRID
from npcorrect.mini.training_run import TrainingRun, adamw, autocast, save_weights
from npcorrect.mini.training_settings import TrainingSettings
from npcorrect.mini.verifier import CellReader


def train_encoder(settings: TrainingSettings, out: Path) -> None:
    """Codes that a linear probe and a small decoder can read under noise."""
    codec, renderer = CellCodec().to(settings.device), Renderer().to(settings.device)
    probe = nn.Linear(CODE, sum(CELL_CLASSES)).to(settings.device)
    draft = nn.Sequential(nn.Linear(CODE, 512), nn.GELU(), nn.Linear(512, 3 * 24 * 24))
    draft.to(settings.device)
    networks = {"encoder": codec.encoder, "probe": probe, "draft": draft}
    run = TrainingRun("encoder", out, settings.encoder, networks, adamw(2e-3, *networks.values()))
    torch.manual_seed(settings.seed + run.step)

    def loss_of(step: int) -> Tensor:
        labels = random_labels(2 * settings.batch, 1, 0.9, settings.device)
        pixels = renderer(labels, renderer.random_shifts(len(labels)))
        codes = codec.encode_cells(pixels)
        noisy = codes + 0.6 * _amounts(codes) * torch.randn_like(codes)
        drawn = draft(noisy).view(-1, 3, 24, 24)
        target = F.interpolate(pixels, size=(24, 24), mode="area")
        return 4 * F.mse_loss(drawn, target) + 0.3 * reading_loss(probe(noisy), labels)

    run.train(loss_of)
    save_weights(codec, out / "encoder.safetensors")


def _amounts(codes: Tensor) -> Tensor:
    """How much noise each code gets, 0 to 1, in the codes' shape up to the last axis."""
    return torch.rand(*codes.shape[:-1], 1, device=codes.device)


def load_codec(settings: TrainingSettings, file: Path) -> CellCodec:
    """A codec from its file, frozen; in the encoder's file, its decoder is untrained."""
    codec: CellCodec = CellCodec()
    load_weights(codec, file)
    codec.to(settings.device).eval().requires_grad_(False)
    return codec


def train_decoder(settings: TrainingSettings, out: Path) -> None:
    """Sharp, centred drawings from noisy codes of displaced ones."""
    codec = load_codec(settings, out / "encoder.safetensors")
    decoder, renderer = codec.decoder.requires_grad_(True), Renderer().to(settings.device)
    run = TrainingRun("decoder", out, settings.decoder, {"decoder": decoder}, adamw(2e-3, decoder))
    torch.manual_seed(settings.seed + 1 + run.step)

    def loss_of(step: int) -> Tensor:
        labels = random_labels(max(1, settings.batch // 4), GRID**2, 0.8, settings.device)
        codes = codec.encode_cells(renderer(labels, renderer.random_shifts(len(labels))))
        codes = codes.view(-1, GRID**2, CODE)
        noisy = codes + 0.35 * _amounts(codes) * torch.randn_like(codes)
        target = renderer(labels)
        with autocast(settings.device):
            drawn = codec.decode_cells(noisy).float()
        return F.l1_loss(drawn, target) + 2 * F.mse_loss(drawn, target)

    run.train(loss_of)
    save_weights(codec, out / "vae.safetensors")


def train_verifier(settings: TrainingSettings, out: Path) -> None:
    """The verifier's network: half rendered cells, half drawn from noisy codes; all disturbed."""
    codec = load_codec(settings, out / "vae.safetensors")
    reader, renderer = CellReader().to(settings.device), Renderer().to(settings.device)
    run = TrainingRun("verifier", out, settings.verifier, {"reader": reader}, adamw(1.5e-3, reader))
    torch.manual_seed(settings.seed + 3 + run.step)

    def loss_of(step: int) -> Tensor:
        labels = random_labels(max(2, settings.batch // 8), GRID**2, 0.6, settings.device)
        pixels = renderer(labels, renderer.random_shifts(len(labels)))
        half = GRID**2 * (max(2, settings.batch // 8) // 2)
        codes = codec.encode_cells(pixels[:half]).view(-1, GRID**2, CODE)
        drawn = codec.decode_cells(codes + 0.3 * _amounts(codes) * torch.randn_like(codes))
        seen = torch.cat([drawn, pixels[half:]])
        grain = 0.08 * torch.rand(len(seen), 1, 1, 1, device=settings.device)
        return reader.loss(seen + grain * torch.randn_like(seen), labels)

    run.train(loss_of)
    save_weights(reader, out / "verifier.safetensors")
