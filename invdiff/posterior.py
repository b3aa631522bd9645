"""The result of a run: weighted samples, what they cost, and whether to trust them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.files import load_arrays, save_arrays, save_json
from invdiff.linalg import expand
from invdiff.rng import ItemId
from invdiff.smc import effective_sample_size

__all__ = ["Posterior"]


@dataclass(frozen=True)
class Posterior:
    r"""n items, k weighted samples each.

    Arguments:
        x: The samples, (n, k, *shape), in the units of the problem's images.
        log_w: Their log-weights, (n, k), float64; all equal for samplers without weights.
        chi2: The misfit of every sample per measured number, (n, k). Its expectation is 1 for
            draws from the posterior.
        ids: The items' identities.
        ok: Whether every sample of an item is finite, (n,).
        suspect: Whether an item's misfit says that something is wrong, (n,): the noise level, the
            operator, the prior, or too short a ladder.
        kind: What the samples are: "exact" and "approximate" posterior samples, or "point".
        trace: What every step told, (steps, n) or (steps, n, k); "ess" and "log_evidence" for
            samplers with weights, "chi2" of the clean estimates for others.
        counts: Evaluations per sample: prior, vjp, forward, adjoint.
        provenance: Everything needed to make this result again.
    """

    x: Tensor
    log_w: Tensor
    chi2: Tensor
    ids: tuple[ItemId, ...]
    ok: Tensor
    suspect: Tensor
    kind: str
    trace: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.x.shape[0]

    @property
    def weights(self) -> Tensor:
        """The normalised weights, (n, k), float64."""
        return torch.softmax(self.log_w, 1)

    @property
    def ess(self) -> Tensor:
        """The effective sample size, (n,). A healthy one does not prove that a result is right."""
        return effective_sample_size(self.log_w)

    @property
    def mean(self) -> Tensor:
        """The weighted mean, (n, *shape)."""
        return (self._column(self.weights) * self.x).sum(1)

    @property
    def spread(self) -> Tensor:
        r"""The standard deviation of the samples, (n, *shape).

        :math:`\sum_k W_k (x_k - \bar x)^2 / (1 - \sum_k W_k^2)`, unbiased for equal weights.
        Raises ValueError with fewer than two samples.
        """
        if self.x.shape[1] < 2:
            raise ValueError("A spread needs at least two samples: call sample with samples=2.")
        centred = (self.x - self.mean[:, None]).square()
        variance = (self._column(self.weights) * centred).sum(1)
        left = (1 - self.weights.square().sum(1)).clamp(min=1e-12).to(self.x)
        return (variance / expand(left, variance)).sqrt()

    @property
    def std(self) -> Tensor:
        """The uncertainty of every pixel, (n, *shape).

        Raises TypeError for a point estimator, whose spread is no uncertainty.
        """
        if self.kind == "point":
            raise TypeError(
                "This result comes from a point estimator: the spread of its runs is not the "
                "uncertainty of the image. Use a posterior sampler, or read .spread knowingly."
            )
        return self.spread

    def quantile(self, q: float) -> Tensor:
        """The weighted quantile of every pixel, (n, *shape), between the samples' mid-ranks.

        Raises ValueError unless 0 <= q <= 1, TypeError for a point estimator.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q is {q}, expected a probability between 0 and 1.")
        if self.kind == "point":
            raise TypeError("A point estimator has no quantiles: use a posterior sampler.")
        values, order = self.x.sort(1)
        weights = self._column(self.weights).expand_as(self.x).gather(1, order)
        ranks = weights.cumsum(1) - 0.5 * weights
        above = (ranks < q).sum(1, keepdim=True).clamp(1, max(1, self.x.shape[1] - 1))
        above = above.clamp(max=self.x.shape[1] - 1)
        low, high = (above - 1).clamp(min=0), above
        left, right = ranks.gather(1, low), ranks.gather(1, high)
        gap = right - left
        part = ((q - left) / torch.where(gap > 0, gap, 1)).clamp(0, 1)
        start = values.gather(1, low)
        return (start + part * (values.gather(1, high) - start))[:, 0]

    @property
    def log_evidence(self) -> Tensor:
        """The estimate of log p(y), (n,). Raises TypeError for samplers without weights."""
        if "log_evidence" not in self.trace:
            raise TypeError("Only samplers with weights estimate the evidence, such as TDS.")
        return self.trace["log_evidence"][-1]

    def save(self, path: str | Path) -> Path:
        """Writes all of it to ``path``.npz, and the provenance, readable, to ``path``.json."""
        path = _npz(path)
        about = {
            "format": "invdiff posterior 1",
            "ids": list(self.ids),
            "kind": self.kind,
            "counts": self.counts,
            "provenance": self.provenance,
        }
        tensors = {name: getattr(self, name) for name in ("x", "log_w", "chi2", "ok", "suspect")}
        tensors |= {f"trace.{name}": value for name, value in self.trace.items()}
        save_arrays(path, {name: value.cpu().numpy() for name, value in tensors.items()}, about)
        save_json(path.with_suffix(".json"), about)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Posterior:
        """Reads what ``save`` wrote. Raises FileNotFoundError, or ValueError if it is damaged."""
        path = _npz(path)
        arrays, about = load_arrays(path, "posterior")
        if about.get("format") != "invdiff posterior 1":
            raise ValueError(f"{path} is no posterior written by invdiff: {about.get('format')}.")
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        trace = {
            name.removeprefix("trace."): tensors.pop(name)
            for name in list(tensors)
            if name.startswith("trace.")
        }
        return cls(
            x=tensors["x"],
            log_w=tensors["log_w"],
            chi2=tensors["chi2"],
            ids=tuple(about["ids"]),
            ok=tensors["ok"],
            suspect=tensors["suspect"],
            kind=about["kind"],
            trace=trace,
            counts=about["counts"],
            provenance=about["provenance"],
        )

    def _column(self, per_sample: Tensor) -> Tensor:
        """(n, k) viewed as (n, k, 1, ..., 1) in the precision of x."""
        return per_sample.to(self.x).reshape(*per_sample.shape, *[1] * (self.x.ndim - 2))

    def __repr__(self) -> str:
        items, samples = self.x.shape[:2]
        return (
            f"Posterior({items} items, {samples} samples of {tuple(self.x.shape[2:])}, "
            f"{self.kind}, ok {int(self.ok.sum())}, suspect {int(self.suspect.sum())})"
        )


def _npz(path: str | Path) -> Path:
    """``path``.npz; a dot within the name, as in "sigma-0.1", ends nothing."""
    path = Path(path)
    return path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
