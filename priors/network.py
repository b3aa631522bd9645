"""Network priors, and the weights that come with the package."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Tensor
from torch.nn import functional as F

from invdiff.errors import PriorError, ShapeError
from invdiff.priors.card import Card
from invdiff.priors.error_curve import error_at
from invdiff.priors.preconditioning import scalings
from invdiff.priors.transforms import GreyPrior
from invdiff.priors.unet import UNet

if TYPE_CHECKING:
    from invdiff.priors.loading.model_prior import ModelPrior

__all__ = ["NetworkPrior", "load_prior"]

EMBEDDED = Path(__file__).parent / "embedded"


@dataclass(frozen=True, eq=False, repr=False)
class NetworkPrior:
    r"""A denoising network with EDM preconditioning.

    .. math:: D(x; \sigma) = c_{skip} x + c_{out} F(c_{in} x, c_{noise})

    It takes images of any height and width of at least `card.multiple` pixels: they are padded
    by reflection to a multiple of it, and the result is cropped. Outside of
    [sigma_min, sigma_max] F is told the nearer end; at sigma = 0, D(x) = x exactly. The network
    runs in float32 whatever the dtype of x. It is differentiable in x, not in its weights.

    Arguments:
        card: What is known about the weights.
        network: F, in evaluation mode, on one device.
    """

    card: Card
    network: UNet

    @classmethod
    def read(cls, weights: Path, card: Path) -> NetworkPrior:
        """Reads weights (safetensors) and their card (JSON), and verifies the SHA-256.

        Raises PriorError if a file is missing, truncated, or does not match the other.
        """
        known = Card.read(card)
        network = UNet(known.channels, known.widths, known.blocks)
        network.load_state_dict(_read_weights(weights, known, network))
        network.to(memory_format=torch.channels_last)
        return cls(known, network.requires_grad_(False).eval())

    @property
    def sigma_min(self) -> float:
        """The smallest noise level it was trained for."""
        return self.card.sigma_min

    @property
    def sigma_max(self) -> float:
        """The largest noise level it was trained for."""
        return self.card.sigma_max

    @property
    def value_range(self) -> tuple[float, float]:
        """The range of clean images."""
        return self.card.value_range

    @property
    def name(self) -> str:
        """The name of the card."""
        return self.card.name

    @property
    def sha256(self) -> str:
        """The SHA-256 of the weight file."""
        return self.card.sha256

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def __repr__(self) -> str:
        return f"NetworkPrior({self.name!r}, sha256={self.sha256[:12]!r})"

    def to(self, device: str | torch.device) -> NetworkPrior:
        """A copy on another device."""
        return replace(self, network=copy.deepcopy(self.network).to(device))

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ShapeError unless shape is (channels, h, w) with h and w large enough."""
        channels, least = self.card.channels, self.card.multiple
        if len(shape) != 3 or shape[0] != channels or min(shape[1:]) < least:
            grey = " Use load_prior('photo', channels=1) for grey images." if channels == 3 else ""
            raise ShapeError(
                f"The prior {self.name!r} does not take images of shape {tuple(shape)}: expected "
                f"({channels}, h, w) with h and w at least {least}.{grey}"
            )

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`D(x; \sigma)` for x (b, channels, h, w) and sigma () or (b,)."""
        if not x.is_floating_point():
            raise TypeError(
                f"The prior {self.name!r} takes real floating-point images, got {x.dtype}. "
                "Convert the image; for complex images see ComplexPrior."
            )
        self.check_shape(tuple(x.shape[1:]))
        if sigma.shape not in ((), (x.shape[0],)):
            raise ShapeError(
                f"sigma has shape {tuple(sigma.shape)}, expected () or one noise level per row, "
                f"({x.shape[0]},)."
            )
        level = sigma.to(x.device, torch.float32).expand(x.shape[0])
        s = scalings(level[:, None, None, None], self.card.sigma_data)
        c_noise = level.clamp(self.sigma_min, self.sigma_max).log() / 4
        inner = x.to(torch.float32)
        out = s.skip * inner + s.out * self._padded(s.into * inner, c_noise)
        return out.to(x.dtype)

    def _padded(self, x: Tensor, c_noise: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        down, right = -height % self.card.multiple, -width % self.card.multiple
        if down or right:
            x = F.pad(x, (0, right, 0, down), mode="reflect")
        out: Tensor = self.network(x.contiguous(memory_format=torch.channels_last), c_noise)
        return out[..., :height, :width]

    def error_variance(self, sigma: Tensor) -> Tensor:
        r"""The measured :math:`E (x_0 - D)^2` per pixel: see `Card`, interpolated in log-log."""
        return error_at(sigma, self.card.error_sigmas, self.card.error_variances)

    def grey_error_variance(self, sigma: Tensor) -> Tensor:
        """The same for grey images seen through `GreyPrior`."""
        return error_at(sigma, self.card.error_sigmas, self.card.grey_error_variances)


def _read_weights(path: Path, card: Card, network: UNet) -> dict[str, Tensor]:
    """The tensors of a safetensors file, after its SHA-256, names and shapes were checked."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    again = "Install the package again, or use the weights and the card of one training run."
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PriorError(
            f"The weights of the prior {card.name!r} cannot be read: {error}. {again}"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise PriorError(
            f"The weights of the prior {card.name!r} do not match their card: {path} has "
            f"{len(data)} bytes and SHA-256 {digest}, expected {card.sha256}. The file is "
            f"truncated, changed, or of another version. {again}"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise PriorError(f"{path} is no safetensors file: {error}. {again}") from error
    expected = {name: value.shape for name, value in network.state_dict().items()}
    got = {name: value.shape for name, value in tensors.items()}
    if got != expected:
        wrong = sorted(n for n in expected.keys() | got if expected.get(n) != got.get(n))
        raise PriorError(
            f"{path} holds other tensors than the architecture of its card has: "
            f"{', '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}. {again}"
        )
    return {name: value.float() for name, value in tensors.items()}


@overload
def load_prior(
    name: Literal["ct", "mr", "photo"], device: str | torch.device = "cpu"
) -> NetworkPrior: ...


@overload
def load_prior(
    name: Literal["ct", "mr", "photo"],
    device: str | torch.device = "cpu",
    *,
    channels: Literal[1],
) -> NetworkPrior | GreyPrior: ...


@overload
def load_prior(
    name: str | Path,
    device: str | torch.device = "cpu",
    *,
    channels: int | None = None,
    trust_pickle: bool = False,
) -> NetworkPrior | GreyPrior | ModelPrior: ...


def load_prior(
    name: str | Path,
    device: str | torch.device = "cpu",
    *,
    channels: int | None = None,
    trust_pickle: bool = False,
) -> NetworkPrior | GreyPrior | ModelPrior:
    """Loads a prior that comes with the package, or your own; nothing is downloaded.

    Arguments:
        name: "ct" (one channel, HU / 1000), "mr" (two channels, the real and imaginary part,
            magnitudes on [0, 1]) or "photo" (RGB on [-1, 1]); or a file or folder of weights in
            one of the formats of docs/loading.md.
        device: Where the network goes.
        channels: None for the prior's own channels; 1 makes "photo" a prior of grey images.
        trust_pickle: Reads a file of weights even where that runs code in it: see
            `invdiff.priors.loading.read_checkpoint`.

    Raises:
        PriorError: There is no such prior, or its files are damaged or of no known format.
    """
    names = sorted(path.stem for path in EMBEDDED.glob("*.json"))
    prior: NetworkPrior | ModelPrior
    if str(name) in names:
        prior = NetworkPrior.read(EMBEDDED / f"{name}.safetensors", EMBEDDED / f"{name}.json")
    elif Path(name).exists():
        from invdiff.priors.loading.detect import load_path

        prior = load_path(name, trust_pickle)
    else:
        raise PriorError(
            f"There is no prior {str(name)!r} in the package: choose one of {names}. Nor is there "
            "such a file or folder."
        )
    prior = prior.to(device) if torch.device(device).type != "cpu" else prior
    if channels is None or channels == prior.card.channels:
        return prior
    if channels == 1 and isinstance(prior, NetworkPrior) and prior.card.grey_error_variances:
        return GreyPrior(prior)
    raise PriorError(
        f"The prior {prior.name!r} has {prior.card.channels} channels and no view with "
        f"{channels}. Leave channels out, or pass channels=1 for 'photo'."
    )
