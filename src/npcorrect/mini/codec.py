"""The world's latent codec, in the shape of diffusers' ``AutoencoderKL``."""

from __future__ import annotations

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from npcorrect.mini.autoencoder import LATENT_CHANNELS, Autoencoder


class CellCodec(Autoencoder, ModelMixin, ConfigMixin):
    """The autoencoder as pipelines take it: ``scaling_factor`` is 1 and ``shift_factor`` is 0."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = LATENT_CHANNELS,
        block_out_channels: tuple[int, ...] = (192,) * 6,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__(latent_channels)

    def forward(self, pixels: Tensor) -> Tensor:
        """The reconstruction of ``pixels`` ``(B, 3, side, side)`` in -1..1, of the same shape."""
        return self.decode(self.encode(pixels)).sample
