"""The report as one page that needs nothing but itself: styles and pictures inside, no script, no request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from tithe.audit.claim import VERDICTS
from tithe.audit.drawing import draw
from tithe.audit.formatting import duration, show

__all__ = ["render"]

_LONG = 14  # rows; a longer table is folded
_MARKS = {"holds": "✓", "holds if": "◐", "fails": "✕", "unmeasured": "○"}


def render(report: Mapping[str, Any]) -> str:
    """The page of a report.

    Args:
        report: as ``Report.to_dict`` gives it, or as read back from ``report.json``.

    Returns:
        HTML text. Where matplotlib is missing, the page says how to get pictures in their place. O(report).

    >>> page = render({"tithe": "0", "date": "2026-01-01", "mode": "quick", "device": "cpu", "seed": 0,
    ...                "interrupted": False, "machine": {"cores": 2}, "claims": []})
    >>> page.startswith("<!doctype html>")
    True
    """
    style = resources.files("tithe.audit").joinpath("page.css").read_text(encoding="utf-8")
    claims = report["claims"]
    parts = [_head(report), _overview(claims), *(_section(claim) for claim in claims), _foot(report)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Tithe audit, {_text(report['date'][:10])}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(parts)}</main>\n</body>\n</html>\n"
    )


def _head(report: Mapping[str, Any]) -> str:
    claims = report["claims"]
    counts = [(verdict, sum(claim["verdict"] == verdict for claim in claims)) for verdict in VERDICTS]
    bar = "".join(f'<span class="{_slug(v)}" style="flex:{n}"></span>' for v, n in counts if n)
    legend = "".join(f"<li>{_badge(v)} <b>{n}</b></li>" for v, n in counts if n)
    machine = report["machine"]
    cores = f"{machine['cores']} cores" if machine.get("cores") else None
    where = [machine.get("processor"), cores, machine.get("gpu"), f"torch {machine.get('torch', '?')}"]
    stopped = '<p class="stopped">This audit was interrupted: what was finished by then is below.</p>' * bool(
        report["interrupted"]
    )
    plural = "claim" if len(claims) == 1 else "claims"
    return (
        '<header>\n<p class="brand">Tithe</p>\n<h1>The audit</h1>\n'
        f'<p class="lead">{len(claims)} {plural}, each measured against what one would otherwise run, '
        f"in {_text(report['mode'])} mode on the {_text(report['device'].upper())}. "
        "Each verdict is computed from the figures on this page.</p>\n"
        f'<div class="bar" aria-hidden="true">{bar}</div>\n<ul class="counts">{legend}</ul>\n{stopped}'
        f'<p class="where">{_text(report["date"].replace("T", " ").replace("+00:00", " UTC"))} · '
        f"{_text(' · '.join(item for item in where if item))} · seed {_text(report['seed'])}</p>\n</header>\n"
    )


def _overview(claims: list[Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<tr><th scope="row"><a href="#{_text(c["id"])}">{_text(c["id"])}</a></th><td class="what">'
        f'<a href="#{_text(c["id"])}">{_text(c["title"])}</a><span>{_text(c["summary"])}</span></td>'
        f'<td data-label="claimed">{_text(c["claimed"])}</td>'
        f'<td data-label="measured">{_text(c["measured"] or "–")}</td><td class="v">{_badge(c["verdict"])}</td></tr>\n'
        for c in claims
    )
    return (
        '<table class="overview">\n<thead><tr><th>Claim</th><th></th><th>Claimed</th><th>Measured</th>'
        f"<th>Verdict</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"
    )


def _section(claim: Mapping[str, Any]) -> str:
    verdict = claim["verdict"]
    condition = f'<p class="condition"><b>Holds if</b> {_text(claim["condition"])}</p>\n' if claim["condition"] else ""
    reason = "" if claim["reason"] == claim["summary"] else _paragraphs(claim["reason"])
    notes = "".join(f"<li>{_text(note)}</li>" for note in claim["notes"])
    error = f"<details open><summary>What was raised</summary><pre>{_text(claim['error'])}</pre></details>\n"
    facts = [
        ("The source says", claim["says"]), ("Claimed", claim["claimed"]),
        ("Measured here", claim["measured"] or "–"), ("Baseline", claim["baseline"]),
    ]  # fmt: skip
    spent = f"{duration(claim['seconds'])}, of a budget of {duration(claim['budget'])} in quick mode"
    return (
        f'<section id="{_text(claim["id"])}">\n<h2><span class="id">{_text(claim["id"])}</span> '
        f"{_text(claim['title'])}</h2>\n"
        f'<div class="verdict {_slug(verdict)}">{_badge(verdict)}<div><p><b>{_text(claim["summary"])}</b></p>\n'
        f"{condition}{reason}</div></div>\n"
        f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{_text(value)}</dd></div>' for name, value in facts)}</dl>\n"
        + _pictures(claim)
        + "".join(_table(table) for table in claim["tables"].values())
        + (f'<ul class="notes">{notes}</ul>\n' if notes else "")
        + (error if claim["error"] else "")
        + f'<p class="spent">Took {_text(spent)}.</p>\n</section>\n'
    )


def _pictures(claim: Mapping[str, Any]) -> str:
    figures = []
    for index, plot in enumerate(claim["plots"]):
        svg = draw(plot, f"{claim['id']}-{index}")
        if svg is None:
            return '<p class="lacking">Pictures need matplotlib: <code>pip install "tithe[plots]"</code></p>\n'
        caption = f"<b>{_text(plot['title'])}</b> {_text(plot['caption'])}"
        figures.append(f"<figure>{svg}<figcaption>{caption}</figcaption></figure>\n")
    return f'<div class="figures">{"".join(figures)}</div>\n' if figures else ""


def _table(table: Mapping[str, Any]) -> str:
    columns, rows = table["columns"], table["rows"]
    heads = "".join(_heading(column, rows) for column in columns)
    body = "".join(f"<tr>{''.join(_cell(row, column) for column in columns)}</tr>\n" for row in rows)
    caption = _text(table["caption"])
    inner = (
        f'<div class="wide" tabindex="0"><table class="data" aria-label="{caption}">\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )
    if len(rows) > _LONG:
        return f'<details class="long"><summary>{caption} <span>{len(rows)} rows</span></summary>{inner}</details>\n'
    return f'<p class="caption">{caption}</p>\n{inner}'


def _heading(column: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    numeric = any(isinstance(row[column["key"]], int | float) for row in rows)
    span = ' colspan="2"' if column["low"] else ""
    return f"<th{span}{' class=n' if numeric and not span else ''}>{_text(column['label'])}</th>"


def _cell(row: Mapping[str, Any], column: Mapping[str, Any]) -> str:
    value, spec = row[column["key"]], column["spec"]
    # A column with an interval is two cells, so that the values line up.
    numeric = column["low"] or (isinstance(value, int | float) and not isinstance(value, bool))
    cell = f"<td{' class=n' if numeric else ''}>{_text(show(value, spec))}</td>"
    if not column["low"]:
        return cell
    low, high = row.get(column["low"]), row.get(column["high"])
    ends = "" if low is None or high is None else f"{_text(show(low, spec))} … {_text(show(high, spec))}"
    return f'{cell}<td class="ends">{ends}</td>'


def _foot(report: Mapping[str, Any]) -> str:
    total = sum(claim["seconds"] or 0.0 for claim in report["claims"])
    details = "".join(
        f"<div><dt>{_text(key.replace('_', ' '))}</dt><dd>{_text(_plain(value))}</dd></div>"
        for key, value in report["machine"].items()
    )
    return (
        f"<footer>\n<p>Measured in {_text(duration(total))} by Tithe {_text(report['tithe'])}. "
        f"The same figures lie beside this page, in <code>report.json</code>.</p>\n<dl>{details}</dl>\n</footer>\n"
    )


def _plain(value: Any) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else show(value)


def _badge(verdict: str) -> str:
    return f'<span class="badge {_slug(verdict)}"><i aria-hidden="true">{_MARKS[verdict]}</i> {_text(verdict)}</span>'


def _slug(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _paragraphs(text: str) -> str:
    return "".join(f'<p class="reason">{_text(line)}</p>\n' for line in text.splitlines() if line)


def _text(value: object) -> str:
    return escape(str(value), quote=True)
