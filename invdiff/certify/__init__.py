"""The certificate: how far every sampler is from exactly known posteriors."""

from invdiff.certify.case import Case, Modes, Truth
from invdiff.certify.cases import Benchmark, benchmarks
from invdiff.certify.entries import Entry, entries
from invdiff.certify.grade import grade
from invdiff.certify.run import certify, certify_all

__all__ = [
    "Benchmark",
    "Case",
    "Entry",
    "Modes",
    "Truth",
    "benchmarks",
    "certify",
    "certify_all",
    "entries",
    "grade",
]
