"""The page: HTML in sections, with its style, its code and its pixels inside."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from importlib.resources import files

from invdiff.report.content import Group, Picture, Report, Section
from invdiff.report.facts import cards, provenance, scores
from invdiff.report.notices import notices_of
from invdiff.report.pixels import colour_table, pack, static_png
from invdiff.report.svg import draw_chart
from invdiff.report.trends import charts_of

__all__ = ["page"]


def page(report: Report) -> str:
    """The whole page as text; the same report gives the same text."""
    style, code = _asset("report.css"), _asset("report.js")
    # Nothing may be loaded from anywhere, and no other code or style may run.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(code)}'; base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{escape(report.title)}</title>",
            f"<style>{style}</style>\n</head>\n<body>",
            _header(report),
            "<main>",
            _notices(report),
            cards(report.result),
            _pictures(report),
            f'<div id="beside">{_asset("compare.html")}<div class="fit">{_charts(report)}'
            f"{scores(report.result)}</div></div>",
            provenance(report.result, report.timings),
            "</main>",
            "<footer>Made by invdiff. This file loads nothing and sends nothing.</footer>",
            f'<script type="application/json" id="data">{_data(report)}</script>',
            f"<script>{code}</script>\n</body>\n</html>\n",
        ]
    )


def _asset(name: str) -> str:
    return files("invdiff.report").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _header(report: Report) -> str:
    simulated = '<span class="banner simulated">Simulated measurement</span>'
    return (
        f'<header><div class="banners"><span class="banner diagnostic">Not for diagnostic use'
        f"</span>{simulated if report.result['simulated'] else ''}</div>"
        f"<h1>{escape(report.title)}</h1><p class=caption>{escape(report.caption)}</p></header>"
    )


def _notices(report: Report) -> str:
    lines = []
    for notice in notices_of(report.result):
        kind, word = ("serious", "Warning") if notice.serious else ("note", "Note")
        lines.append(f'<li class="{kind}"><b>{word}</b> {escape(notice.text)}</li>')
    return (
        f'<section aria-label="Warnings"><ul class="notices">{"".join(lines)}</ul></section>'
        if lines
        else ""
    )


def _pictures(report: Report) -> str:
    """Controls, which appear with the code that serves them, and the pictures by sections."""
    parts = []
    for section in Section:
        members = [(i, p) for i, p in enumerate(report.pictures) if p.section is section]
        if members:
            figures = "".join(_figure(number, picture, report) for number, picture in members)
            parts.append(
                f'<section class="{section.name.lower()}"><h2>{escape(section.value)}</h2>'
                f'<div class="row">{figures}</div></section>'
            )
    return f'{_asset("controls.html")}<div id="pictures">{"".join(parts)}</div>'


def _figure(number: int, picture: Picture, report: Report) -> str:
    middle = len(picture.values) // 2
    source = static_png(picture.values[middle], picture.window, picture.group)
    rows, columns = picture.values.shape[-2:]
    low, high = picture.window
    unit = f" {escape(picture.unit)}" if picture.unit else ""
    title = escape(picture.title)
    note = f"<p>{escape(picture.note)}</p>" if picture.note else ""
    return (
        f'<figure data-picture="{number}"><figcaption>{title}</figcaption><div class="frame">'
        f'<img src="{source}" width="{columns}" height="{rows}" '
        f'alt="{title}, slice {report.slices[middle] + 1}">'
        '<p class="value" aria-hidden="true"></p></div>'
        f'<p class="scale"><span>{low:.4g}</span><i class="bar {picture.group.value}"></i>'
        f"<span>{high:.4g}{unit}</span></p>{note}</figure>"
    )


def _charts(report: Report) -> str:
    figures = "".join(
        f"<figure><figcaption>{escape(chart.title)}</figcaption>{draw_chart(chart)}"
        f"<p>{escape(chart.note)}</p></figure>"
        for chart in charts_of(report.result)
    )
    heading = '<section class="charts"><h2>Does the result fit the data?</h2>'
    return f'{heading}<div class="row">{figures}</div></section>'


def _data(report: Report) -> str:
    """What the code needs, with every "<" escaped so that nothing can end the element."""
    pictures = []
    for picture in report.pictures:
        packed = pack(picture.values)
        pictures.append(
            {
                "title": picture.title,
                "unit": picture.unit,
                "group": picture.group.value,
                "window": list(picture.window),
                "rows": picture.values.shape[-2],
                "columns": picture.values.shape[-1],
                "channels": 3 if picture.values.ndim == 4 else 1,
                **packed._asdict(),
            }
        )
    tables = {group.value: colour_table(group).tobytes().hex() for group in Group}
    content = {
        "pictures": pictures,
        "slices": [number + 1 for number in report.slices],
        "presets": {name: list(window) for name, window in report.presets.items()},
        "colours": tables,
    }
    return json.dumps(content).replace("<", "\\u003c")
