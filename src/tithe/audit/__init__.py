"""The audit: every claim of the sources, measured against what one would otherwise run, with a computed verdict.

>>> from tithe.audit import discover
>>> "M2" in [claim.id for claim in discover()]
True
"""

from tithe.audit.claim import VERDICTS, Claim, Finding, Mode, Run, Verdict
from tithe.audit.evidence import Axis, Column, Evidence, Plot, Role, Row, Series, Table
from tithe.audit.formatting import duration, show
from tithe.audit.page import render
from tithe.audit.registry import discover, select
from tithe.audit.report import Report, Result
from tithe.audit.runner import Event, audit
from tithe.audit.statistics import Interval, PowerLaw, interval, power_law

__all__ = [
    "VERDICTS",
    "Axis",
    "Claim",
    "Column",
    "Event",
    "Evidence",
    "Finding",
    "Interval",
    "Mode",
    "Plot",
    "PowerLaw",
    "Report",
    "Result",
    "Role",
    "Row",
    "Run",
    "Series",
    "Table",
    "Verdict",
    "audit",
    "discover",
    "duration",
    "interval",
    "power_law",
    "render",
    "select",
    "show",
]
