"""The samplers: one file each, holding its own mathematics and nothing else."""

from invdiff.samplers.afdps import AFDPS
from invdiff.samplers.base import Sampler
from invdiff.samplers.conjugate_tds import ConjugateTDS
from invdiff.samplers.daps import DAPS
from invdiff.samplers.ddnm import DDNM, DDNMPlus
from invdiff.samplers.ddrm import DDRM
from invdiff.samplers.dds import DDS
from invdiff.samplers.diffpir import DiffPIR
from invdiff.samplers.dps import DPS
from invdiff.samplers.fk_steering import FKSteering
from invdiff.samplers.fkc import FKC
from invdiff.samplers.fps_smc import FPSSMC
from invdiff.samplers.lgd import LGD
from invdiff.samplers.mcgdiff import MCGDiff
from invdiff.samplers.mmps import MMPS
from invdiff.samplers.mpgd import MPGD
from invdiff.samplers.pigdm import PiGDM
from invdiff.samplers.pnp_dm import PnPDM
from invdiff.samplers.red_diff import REDDiff
from invdiff.samplers.skeleton import Skeleton
from invdiff.samplers.split_smc import SplitSMC
from invdiff.samplers.stsl import STSL
from invdiff.samplers.svdd import SVDD
from invdiff.samplers.tds import TDS
from invdiff.samplers.tmpd import TMPD

__all__ = [
    "AFDPS",
    "DAPS",
    "DDNM",
    "DDRM",
    "DDS",
    "DPS",
    "FKC",
    "FPSSMC",
    "LGD",
    "MMPS",
    "MPGD",
    "STSL",
    "SVDD",
    "TDS",
    "TMPD",
    "ConjugateTDS",
    "DDNMPlus",
    "DiffPIR",
    "FKSteering",
    "MCGDiff",
    "PiGDM",
    "PnPDM",
    "REDDiff",
    "Sampler",
    "Skeleton",
    "SplitSMC",
]
