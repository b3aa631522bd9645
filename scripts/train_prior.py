"""Trains a prior: an EDM-preconditioned U-Net on photographs, CT or MR slices.

    python scripts/train_prior.py ct --folder SCANS --name chest --out RUN --minutes 60
    python scripts/train_prior.py ct --data DATA --out RUN --minutes 85

The first command trains on a folder of your own files (DICOM, NIfTI and HDF5 for ct and mr,
pictures for photo), starting from the embedded prior of that kind, and writes
RUN/NAME.safetensors with its card RUN/NAME.json: load_prior("RUN/NAME.safetensors"). The second
trains an embedded prior on what scripts/prepare_training_data.py wrote.

The run is resumed by the same command after a kill: batch, noise and augmentation of a step
depend on the seed and the step's number only. With `--steps` the learning rate is a function of
the step and a resumed run equals an uninterrupted one bit for bit (on one thread); with
`--minutes` it is a function of the time trained, so that a run ends when it should on any machine.

Writes RUN/checkpoint.pt, RUN/log.jsonl, RUN/curve.png and RUN/weights.safetensors (the average
of the weights over time).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import fields
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from training import DATA_RANGE, SETTINGS, Config, plot, train
from training_card import draft_card, publish, this_machine
from training_data import load_crops
from training_folder import gather

from invdiff.priors.card import Source

LIMITS = (
    "Trained on its owner's images and measured on a tenth of their owners: for research on "
    "reconstruction methods, not for diagnosis. What those images do not show is not covered; "
    "fine anatomy that the data do not determine is invented."
)


def configuration(kind: str, file: Path | None, start: str) -> Config:
    """The defaults of a kind, with the fields that a file of JSON changes."""
    changes = json.loads(file.read_text()) if file else {}
    unknown = changes.keys() - {f.name for f in fields(Config)}
    if unknown:
        raise ValueError(f"Unknown fields in the configuration: {sorted(unknown)}")
    for name in ("widths", "blocks"):
        if name in changes:
            changes[name] = tuple(changes[name])
    if "phases" in changes:
        changes["phases"] = tuple((share, size) for share, size in changes["phases"])
    known = SETTINGS.get(kind, {}) | ({"start": start} if start else {})
    return Config(kind=kind, **(known | changes))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("photo", "ct", "mr"))
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", type=Path, help="your own files")
    source.add_argument("--data", type=Path, help="what prepare_training_data.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the run")
    parser.add_argument("--name", default="own", help="of the prior")
    parser.add_argument("--licence", default="not stated", help="of your files, for the card")
    parser.add_argument("--config", type=Path, help="JSON of Config's fields to change")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--every", type=int, default=500, help="steps between validations")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    given = parser.parse_args()
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,40}", given.name) or given.name in DATA_RANGE:
        parser.error("--name: lower-case letters, digits and hyphens, and no embedded prior's")
    if (given.steps is None) == (given.minutes is None):
        parser.error("give either --steps or --minutes")
    return given


def main() -> None:
    """Gathers, trains, and writes the card."""
    given = parse()
    if given.threads:
        torch.set_num_threads(given.threads)
    config = configuration(given.kind, given.config, given.kind if given.folder else "")
    smallest = max(size for _, size in config.phases)
    if given.folder:
        gathered = gather(config.kind, given.folder, smallest, config.seed)
        print(gathered, flush=True)
        crops, images = gathered.crops, gathered.validation
    else:
        crops, images = load_crops(config.kind, given.data, smallest)
    run = train(
        config, crops, images, given.out,
        steps=given.steps, minutes=given.minutes, device=given.device, every=given.every,
    )  # fmt: skip
    plot(run, given.out)
    print(f"{run.step} steps in {run.elapsed / 60:.1f} minutes: {run.log[-1]}")
    if given.folder:
        source = Source(gathered.described, given.licence, "files of whoever trained it")
        card = draft_card(
            given.out, images, kind=config.kind, name=given.name, status="final",
            hardware=this_machine(given.device), data=(source,), limits=LIMITS,
        )  # fmt: skip
        print(f"load_prior({str(publish(given.out, images, card))!r})")


if __name__ == "__main__":
    main()
