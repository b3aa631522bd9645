"""Autoencoders: images to latents, and back.

References:
    | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022)
    | https://arxiv.org/abs/2112.10752
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.operators.decoder import Decoder
from invdiff.priors.loading.diffusers import read_folder
from invdiff.priors.loading.extras import needs
from invdiff.priors.loading.files import read_checkpoint
from invdiff.priors.loading.matching import assemble, find_weights, strip_prefix
from invdiff.priors.loading.monai import present_names

__all__ = ["AutoEncoder", "load_diffusers_autoencoder", "load_monai_autoencoder"]


class Standardised(nn.Module):
    r"""One half of an autoencoder, in standardised latents :math:`z = s (\mu - m)`.

    Arguments:
        model: A diffusers or MONAI AutoencoderKL.
        shift: m, a number or one per channel.
        scale: s, a number or one per channel.
        dimensions: Of the images.
    """

    def __init__(
        self,
        model: Any,
        shift: Sequence[float] = (0.0,),
        scale: Sequence[float] = (1.0,),
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        self.model = model
        shape = (1, -1, *[1] * dimensions)
        self.register_buffer("shift", torch.tensor(shift).reshape(shape))
        self.register_buffer("scale", torch.tensor(scale).reshape(shape))


class Encode(Standardised):
    """Images to the means of their latents."""

    def forward(self, x: Tensor) -> Tensor:
        """z for x (b, channels, *size)."""
        found = self.model.encode(x)
        mean = found[0] if isinstance(found, tuple) else found.latent_dist.mean
        latent: Tensor = (mean - self.get_buffer("shift")) * self.get_buffer("scale")
        return latent


class Decode(Standardised):
    """Latents to images."""

    def forward(self, z: Tensor) -> Tensor:
        """x for z (b, channels, *size)."""
        found = self.model.decode(z / self.get_buffer("scale") + self.get_buffer("shift"))
        image: Tensor = found if isinstance(found, Tensor) else found.sample
        return image


@dataclass(frozen=True, eq=False)
class AutoEncoder:
    """Images to latents, and back. Its latents are those that a latent prior is of.

    Arguments:
        encode: A module from images to latents (the mean, where the encoder is random).
        decode: A module from latents to images.
        value_range: Of the images.
    """

    encode: nn.Module
    decode: nn.Module
    value_range: tuple[float, float] = (-1.0, 1.0)

    def decoder(self, latent_shape: tuple[int, ...]) -> Decoder:
        """The operator from latents of this shape to images."""
        return Decoder(self.decode, latent_shape)


def load_diffusers_autoencoder(folder: str | Path, *, trust_pickle: bool = False) -> AutoEncoder:
    """The AutoencoderKL of a diffusers folder; its scale and shift are applied.

    Arguments:
        folder: A pipeline with vae/, or the model's own folder.
        trust_pickle: See `read_checkpoint`.

    Raises:
        PriorError: A file is missing or damaged, or of another class.
        ImportError: diffusers is not installed.
    """
    library = needs("diffusers", "diffusers")
    folder = Path(folder)
    folder = folder / "vae" if (folder / "vae").is_dir() else folder
    config, file = read_folder(folder, "AutoencoderKL", trust_pickle)
    state = find_weights(file)[0]
    model = assemble(
        lambda: library.AutoencoderKL.from_config(dict(config)), state, str(file.path)
    )
    shift = config.get("latents_mean") or [float(config.get("shift_factor") or 0.0)]
    deviation = config.get("latents_std") or [1.0]
    scale = [float(config.get("scaling_factor", 0.18215)) / value for value in deviation]
    return AutoEncoder(Encode(model, shift, scale), Decode(model, shift, scale))


def load_monai_autoencoder(
    path: str | Path,
    config: Mapping[str, Any],
    *,
    scale: float,
    value_range: tuple[float, float] = (0.0, 1.0),
    trust_pickle: bool = False,
) -> AutoEncoder:
    """MONAI's AutoencoderKL.

    Arguments:
        path: Its state dict.
        config: The arguments of AutoencoderKL, such as the bundle's ``autoencoder_def``.
        scale: The factor that the latent model was trained with, 1 / (standard deviation of a
            latent): bundles store it beside the weights.
        value_range: Of the images.
        trust_pickle: See `read_checkpoint`.

    Raises:
        PriorError: The file cannot be read, or does not fit the configuration.
        ImportError: MONAI is not installed.
    """
    nets = needs("monai.networks.nets", "monai")
    file = read_checkpoint(path, trust_pickle=trust_pickle)
    state = strip_prefix(find_weights(file)[0], lambda one: any("decoder." in key for key in one))
    model = assemble(lambda: nets.AutoencoderKL(**config), present_names(state), str(file.path))
    size = int(config["spatial_dims"])
    return AutoEncoder(
        Encode(model, scale=[scale], dimensions=size),
        Decode(model, scale=[scale], dimensions=size),
        value_range,
    )
