"""``tithe audit``: measure claims and print the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from tithe.cli.console import ERR, OUT, complain, escaped, print_rows
from tithe.errors import UnknownClaimError

if TYPE_CHECKING:
    from tithe.audit import Claim, Mode, Report

__all__ = ["audit"]

_STYLES = {"holds": "bold green", "holds if": "bold yellow", "fails": "bold red", "unmeasured": "dim"}


def audit(
    *ids: str,
    full: Annotated[bool, Parameter(name="--full", negative="--quick")] = False,
    device: Literal["cpu", "cuda"] = "cpu",
    out: Path = Path("audit"),
    seed: int = 0,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
) -> int:
    """Measure the claims of the sources and print the verdicts.

    Parameters
    ----------
    ids
        The claims to measure, such as M2; all by default.
    full
        As long as it takes, or (the default) quick: within a few minutes on two cores.
    device
        Where to measure.
    out
        The folder for report.json and report.html.
    seed
        Of all that is random.
    list_
        List the claims and measure nothing.
    """
    import tithe.audit as package

    try:
        claims = package.select(package.discover(), ids)
    except UnknownClaimError as error:
        complain(str(error))
        return 2
    if list_:
        print_rows(["claim", "what", "claimed", "quick"], [_listed(claim) for claim in claims])
        return 0
    report = _audit_with_progress(claims, "full" if full else "quick", device, out, seed)
    _print_verdicts(report)
    OUT.print(f"\nThe report: {out / 'report.html'}", soft_wrap=True, markup=False)
    return report.exit_code


def _audit_with_progress(claims: Sequence[Claim], mode: Mode, device: str, out: Path, seed: int) -> Report:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    import tithe.audit as package

    columns = (
        TextColumn("{task.fields[claim]:>4}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=ERR, transient=True, disable=not ERR.is_terminal) as progress:
        task = progress.add_task("starts", total=float(len(claims)), claim="")
        place = {claim.id: index for index, claim in enumerate(claims)}

        def watch(event: package.Event) -> None:
            progress.update(task, completed=place[event.claim] + event.done, description=event.what, claim=event.claim)
            if event.result is not None and not ERR.is_terminal:
                ERR.print(f"{event.claim}: {event.what}", markup=False)

        return package.audit(claims, out, mode=mode, device=device, seed=seed, watch=watch)


def _print_verdicts(report: Report) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("claim", "verdict", "what was found"):
        table.add_column(heading, overflow="fold")
    for result in report.results:
        verdict = result.finding.verdict
        table.add_row(result.claim.id, f"[{_STYLES[verdict]}]{verdict}[/]", escaped(result.finding.summary))
    OUT.print(table)
    for result in report.results:
        if result.error is not None:
            ERR.print(f"\n{result.claim.id} raised:\n{result.error}", markup=False, soft_wrap=True)


def _listed(claim: Claim) -> list[str]:
    return [claim.id, claim.title, claim.claimed, f"{claim.budget:g} s"]
