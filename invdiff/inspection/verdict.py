"""Which interpretation is right: the one with the fewest mistakes that explains the results."""

from __future__ import annotations

from collections.abc import Sequence

from invdiff.inspection.trial import Trial

__all__ = ["decide", "shortlist"]

# Differences of score in dB that it takes to name a mistake. An exact denoiser is the best there
# is on images of its own kind; the margins are for images of other kinds and few of them.
CLEARLY = 1.0  # where the network's answer or its noise level would be another
ENOUGH = 0.5  # the same if nearly always as good, or if only the images are given differently
STEADILY = 0.2  # for images given differently and mostly better: networks forgive much of that
NEARLY_ALWAYS, MOSTLY = 0.9, 0.75  # of all images and levels
SAME = 0.05  # differences below this are none: at little noise, many mistakes change nothing
AS_GOOD = 0.5  # below the best: the simpler explanation is taken
NEVER_WORSE = -0.3  # at no noise level may a better interpretation lose more


def decide(trials: Sequence[Trial]) -> Trial:
    """The interpretation to believe; the first trial is the prior as declared."""
    declared = trials[0]
    better = [trial for trial in trials[1:] if _beats(trial, declared)]
    if not better:
        return declared
    best = max(trial.score for trial in better)
    good = [trial for trial in better if trial.score >= best - AS_GOOD]
    fewest = min(trial.mistakes for trial in good)
    return max((t for t in good if t.mistakes == fewest), key=lambda trial: trial.score)


def shortlist(trials: Sequence[Trial], count: int) -> list[Trial]:
    """The prior as declared, and the best of the others with 0.5 dB off for each mistake."""
    ranked = sorted(trials[1:], key=lambda t: t.score - AS_GOOD * t.mistakes, reverse=True)
    return [trials[0], *ranked[:count]]


def _beats(trial: Trial, declared: Trial) -> bool:
    rise, gain = trial.score - declared.score, trial.gains - declared.gains
    if trial.of_images:
        better = float((gain > 0).double().mean())
        return rise > ENOUGH or (rise > STEADILY and better >= MOSTLY)
    if bool((gain.mean(0) < NEVER_WORSE).any()):
        return False
    as_good = float((gain > -SAME).double().mean())
    return rise > CLEARLY or (rise > ENOUGH and as_good >= NEARLY_ALWAYS)
