"""The samplers: one file each, holding its own mathematics and nothing else."""

from invdiff.samplers.base import Sampler
from invdiff.samplers.dds import DDS
from invdiff.samplers.dps import DPS
from invdiff.samplers.red_diff import REDDiff
from invdiff.samplers.stsl import STSL
from invdiff.samplers.tds import TDS

__all__ = ["DDS", "DPS", "STSL", "TDS", "REDDiff", "Sampler"]
