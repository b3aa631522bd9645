"""Reports of reconstructions: one page without network, the figures as JSON, and how to trust."""

from invdiff.report.content import Bars, Chart, Curve, Group, Notice, Picture, Report, Section
from invdiff.report.coverage import Calibration, interval_coverage
from invdiff.report.display import Display
from invdiff.report.filling import from_posterior, joined
from invdiff.report.notices import clipped_notice, starved_notice
from invdiff.report.range_null import Split, range_null_split
from invdiff.report.residuals import Residuals, residual_statistics
from invdiff.report.writing import write_report, write_result

__all__ = [
    "Bars",
    "Calibration",
    "Chart",
    "Curve",
    "Display",
    "Group",
    "Notice",
    "Picture",
    "Report",
    "Residuals",
    "Section",
    "Split",
    "clipped_notice",
    "from_posterior",
    "interval_coverage",
    "joined",
    "range_null_split",
    "residual_statistics",
    "starved_notice",
    "write_report",
    "write_result",
]
