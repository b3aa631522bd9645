"""What this installation is: for bug reports, and for choosing a prior."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

import invdiff.samplers
from invdiff.priors.network import EMBEDDED
from invdiff.provenance import versions

__all__ = ["about", "about_text"]


def about() -> dict[str, Any]:
    """Versions, devices, samplers and embedded priors, ready for JSON."""
    from invdiff.priors.card import Card

    cards = [Card.read(path) for path in sorted(EMBEDDED.glob("*.json"))]
    names = sorted(name for name in invdiff.samplers.__all__ if name != "Sampler")
    samplers: list[Any] = [getattr(invdiff.samplers, name) for name in names]
    return {
        "versions": versions(),
        "devices": ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))],
        "samplers": [
            {"name": kind.__name__, "kind": kind.kind, "purpose": _first_line(kind)}
            for kind in samplers
        ],
        "priors": [_prior(card) for card in cards],
    }


def about_text(facts: dict[str, Any]) -> str:
    """The same for people."""
    lines = [" ".join(f"{name} {value}" for name, value in facts["versions"].items())]
    lines.append("devices: " + ", ".join(facts["devices"]))
    lines.append("samplers:")
    lines += [f"  {s['name']:8} {s['kind']:12} {s['purpose']}" for s in facts["samplers"]]
    lines.append("priors:")
    for p in facts["priors"]:
        low, high = p["range"]
        lines.append(
            f"  {p['name']:8} {p['channels']} channels, {p['units']}, range [{low:g}, {high:g}], "
            f"sha256 {p['sha256'][:12]}"
        )
    return "\n".join(lines)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _prior(card: Any) -> dict[str, Any]:
    return {
        "name": card.name,
        "version": card.version,
        "sha256": card.sha256,
        "channels": card.channels,
        "range": list(card.value_range),
        "units": card.units,
        "sigma_range": [card.sigma_min, card.sigma_max],
        "training_data": [
            {"name": source.name, "licence": source.licence} for source in card.data
        ],
        "limits": card.limits,
        "denoising": [dataclasses.asdict(row) for row in card.denoising],
    }
