"""The miniature model's latent codec, in the shape of diffusers' ``AutoencoderKL``."""

from __future__ import annotations

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from npcorrect.mini.autoencoder import LATENT_CHANNELS, WIDTH, decoder, encoder
from npcorrect.mini.parts import Decoded


class MiniCodec(ModelMixin, ConfigMixin):
    """Pixels in -1..1, ``(B, 3, H, W)``, to latents ``(B, C, H/16, W/16)`` and back.

    Latents have zero mean and unit variance by construction (a batch norm without affine part), so
    ``scaling_factor`` is 1 and ``shift_factor`` is 0.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = LATENT_CHANNELS,
        width: int = WIDTH,
        block_out_channels: tuple[int, ...] = (WIDTH,) * 5,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder(latent_channels, width)
        self.decoder = decoder(latent_channels, width)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels ``(B, 3, H, W)`` in -1..1 to latents ``(B, C, H/16, W/16)``."""
        latents: Tensor = self.encoder(pixels)
        return latents

    def decode(self, latents: Tensor, return_dict: bool = True) -> Decoded:
        """Latents ``(B, C, h, w)`` to pixels ``(B, 3, 16 h, 16 w)``, about -1..1."""
        del return_dict  # a named tuple serves both of diffusers' calling styles
        return Decoded(self.decoder(latents))

    def forward(self, pixels: Tensor) -> Tensor:
        """The reconstruction of ``pixels`` ``(B, 3, H, W)``, of the same shape."""
        return self.decode(self.encode(pixels)).sample
