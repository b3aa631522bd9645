"""A prior of finitely many images: everything about it is a finite sum, for any operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.priors.gaussian import tensor_digest
from invdiff.problem import Problem
from invdiff.rng import Rng

__all__ = ["AtomsPosterior", "AtomsPrior"]


@dataclass(frozen=True)
class AtomsPosterior:
    r"""The posterior :math:`p(x_i \mid y)` over atoms, per item, float64.

    Arguments:
        weights: :math:`p(x_i \mid y)`, (items, atoms).
        atoms: :math:`x_i`, (atoms, *shape).
        log_evidence: log p(y), (items,).
    """

    weights: Tensor
    atoms: Tensor
    log_evidence: Tensor

    @property
    def mean(self) -> Tensor:
        """E[x | y], (items, *shape)."""
        return torch.einsum("ia,a...->i...", self.weights, self.atoms)

    @property
    def covariance(self) -> Tensor:
        """Cov[x | y], (items, pixels, pixels)."""
        centred = self.atoms.flatten(1) - self.mean.flatten(1)[:, None]
        return torch.einsum("ia,ian,iam->inm", self.weights, centred, centred)

    @property
    def std(self) -> Tensor:
        """The standard deviation of every pixel, (items, *shape)."""
        centred = self.atoms - self.mean[:, None]
        return torch.einsum("ia,ia...->i...", self.weights, centred.square()).sqrt()

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Independent exact samples, (items, samples, *shape)."""
        pick = torch.multinomial(self.weights, samples, replacement=True, generator=generator)
        return self.atoms[pick]


@dataclass(frozen=True, eq=False)
class AtomsPrior:
    r"""The prior :math:`\sum_i w_i\, \delta(x - x_i)` of some images, its atoms.

    .. math:: D(x) = \sum_i r_i(x)\, x_i, \qquad r_i \propto w_i N(x; x_i, \sigma^2 I)

    Under any operator, also a nonlinear one, and any noise, the posterior is
    :math:`w_i\, p(y \mid x_i)` normalised: a reference that needs no integral.

    Arguments:
        atoms: :math:`x_i`, (atoms, *shape).
        weights: :math:`w_i`, (atoms,), positive; they are normalised. Equal if None.

    Raises:
        ShapeError: The shapes do not fit together.
        ValueError: There are fewer than two atoms, or a weight is not positive.

    (Burns and Fridovich-Keil, the finite-sample reference posterior, 2026.)
    """

    atoms: Tensor
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        count = self.atoms.shape[0] if self.atoms.ndim > 1 else 0
        if count < 2:
            raise ValueError(
                f"The atoms have shape {tuple(self.atoms.shape)}, expected at least two images "
                "behind one leading axis."
            )
        if self.weights is None:
            return
        if tuple(self.weights.shape) != (count,):
            raise ShapeError(
                f"The weights have shape {tuple(self.weights.shape)}, expected {(count,)}: one "
                "number per atom."
            )
        if not bool((self.weights > 0).all()):
            raise ValueError(
                f"The smallest weight is {float(self.weights.min()):.3g}, expected all above "
                "zero. Leave atoms of no weight out."
            )

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._expected(x, sigma, self._log_weights)

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(x) of images with noise of level sigma added, (b,), float64."""
        noise = torch.as_tensor(sigma).to(x.device, torch.float64).reshape(-1, 1) ** 2
        exponents = self._exponents(x, noise, self._log_weights)
        rest = x.double().flatten(1).square().sum(1) / noise[:, 0]
        pixels = x[0].numel()
        normaliser = pixels * torch.log(2 * torch.pi * noise[:, 0])
        return torch.logsumexp(exponents, 1) - 0.5 * (rest + normaliser)

    def denoise_given(self, problem: Problem) -> Callable[[Tensor, Tensor], Tensor]:
        r"""The map :math:`(x_\sigma, \sigma) \mapsto E[x_0 \mid x_\sigma, y]`, exact.

        For x (b, *shape) with one row for each of the problem's. The exact score of the
        likelihood at any level is :math:`(E[x_0 \mid x_\sigma, y] - D(x_\sigma)) / \sigma^2`.
        """
        log_joint = self._log_joint(problem)
        return lambda x, sigma: self._expected(x, sigma, log_joint)

    def posterior(self, problem: Problem) -> AtomsPosterior:
        """p(x | y), exact, for any operator and noise."""
        log_joint = self._log_joint(problem)
        return AtomsPosterior(
            log_joint.softmax(1), self.atoms.double(), torch.logsumexp(log_joint, 1)
        )

    def nearest(self, x: Tensor) -> Tensor:
        """The index of the atom closest to each image, (b, *shape) -> (b,)."""
        one = torch.ones(1, 1, dtype=torch.float64, device=x.device)
        return self._exponents(x, one, torch.zeros_like(self._log_weights)).argmax(1)

    def _expected(self, x: Tensor, sigma: Tensor, log_weights: Tensor) -> Tensor:
        noise = torch.as_tensor(sigma).to(x.device, torch.float64).reshape(-1, 1) ** 2
        shares = self._exponents(x, noise, log_weights).softmax(1)
        flat = shares @ self.atoms.flatten(1).to(x.device, torch.float64)
        return flat.reshape(x.shape).to(x.dtype)

    def _exponents(self, x: Tensor, noise: Tensor, log_weights: Tensor) -> Tensor:
        r"""log of w_i N(x; x_i), (b, atoms), but for what all atoms share; float64.

        In single precision the difference of two large squares over a small sigma is noise.
        """
        flat = self.atoms.flatten(1).to(x.device, torch.float64)
        overlap = x.flatten(1).double() @ flat.T - 0.5 * flat.square().sum(1)
        return log_weights.to(x.device) + overlap / noise

    def _log_joint(self, problem: Problem) -> Tensor:
        """log of w_i p(y | x_i), (items, atoms)."""
        count, atoms = len(self.atoms), self.atoms.to(problem.y.device, torch.float64)
        y = problem.y.to(torch.complex128 if problem.y.is_complex() else torch.float64)
        exact = Problem(y, problem.operator, problem.noise)
        rows = [
            exact.rows(torch.full((count,), item)).log_likelihood(atoms)
            for item in range(len(problem))
        ]
        return self._log_weights.to(y.device) + torch.stack(rows)

    @cached_property
    def _log_weights(self) -> Tensor:
        if self.weights is None:
            return torch.zeros(len(self.atoms), dtype=torch.float64).log_softmax(0)
        return self.weights.double().log().log_softmax(0)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        if tuple(shape) != tuple(self.atoms.shape[1:]):
            raise ShapeError(
                f"This prior describes images of shape {tuple(self.atoms.shape[1:])}, got {shape}."
            )

    def error_variance(self, sigma: Tensor) -> Tensor:
        r"""The smaller of two upper bounds, each tight at one end.

        The error of the best linear denoiser, for large sigma; and for small sigma that of the
        nearest atom, :math:`\tfrac1n \sum_{ij} w_i \|x_i - x_j\|^2 Q(\|x_i - x_j\| / 2 \sigma)`
        with the Gaussian tail Q. The exact error is an integral over all pixels.
        """
        noise = torch.as_tensor(sigma, dtype=torch.float64)[..., None] ** 2
        linear = (self._variances * noise / (self._variances + noise)).mean(-1)
        tail = torch.special.ndtr(-self._distances / (2 * noise[..., None].sqrt()))
        shares = self._log_weights.exp()[:, None] / self.atoms[0].numel()
        nearest = (shares * self._distances.square() * tail).sum((-1, -2))
        return torch.minimum(linear, nearest).to(torch.as_tensor(sigma))

    @cached_property
    def _distances(self) -> Tensor:
        flat = self.atoms.flatten(1).double().cpu()
        return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")

    @cached_property
    def _variances(self) -> Tensor:
        """The eigenvalues of the atoms' covariance, (pixels,)."""
        flat, shares = self.atoms.flatten(1).double().cpu(), self._log_weights.exp()
        centred = shares.sqrt()[:, None] * (flat - shares @ flat)
        values = torch.linalg.svdvals(centred).square()
        rest = flat.shape[1] - len(values)
        return torch.cat([values, values.new_zeros(max(rest, 0))])

    def draw(self, rng: Rng) -> Tensor:
        """One exact sample per row of ``rng``, (b, *shape), float64."""
        white = rng.normal(torch.empty(len(rng.ids) * rng.particles, 1, dtype=torch.float64))
        edges = self._log_weights.exp().cumsum(0)[:-1]
        pick = torch.searchsorted(edges, torch.special.ndtr(white[:, 0]).contiguous())
        return self.atoms.double()[pick]

    @property
    def sigma_min(self) -> float:
        return 1e-3 * self._scale

    @property
    def sigma_max(self) -> float:
        return 100 * self._scale

    @property
    def value_range(self) -> tuple[float, float]:
        return float(self.atoms.min()), float(self.atoms.max())

    @property
    def name(self) -> str:
        return "atoms"

    @cached_property
    def sha256(self) -> str:
        return tensor_digest(self.atoms, self._log_weights)

    @property
    def _scale(self) -> float:
        return float(self._variances.max().sqrt())

    def __repr__(self) -> str:
        shape = tuple(self.atoms.shape[1:])
        return f"AtomsPrior(atoms={len(self.atoms)}, shape={shape}, sha256={self.sha256[:12]})"
