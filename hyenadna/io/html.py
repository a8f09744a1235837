"""Reports for people: one HTML file of text, tables and pictures, which needs nothing from outside and runs nothing.

Everything that comes from data is escaped by the template engine, never by hand; the page forbids itself scripts and the network.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hyenadna.errors import ConfigError
from hyenadna.io.atomic import open_output

__all__ = ["Picture", "Section", "Table", "require_html_name", "write_html"]


class Table(NamedTuple):
    """Rows under a header; numbers stand on the right. An empty header is left out."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""


class Picture(NamedTuple):
    """A PNG with what it shows in words."""

    png: bytes
    alt: str
    caption: str = ""

    @property
    def base64(self) -> str:
        """The bytes as text."""
        return base64.b64encode(self.png).decode()


class Section(NamedTuple):
    """A heading and what stands under it; text is a paragraph."""

    title: str
    parts: Sequence[str | Table | Picture]


def require_html_name(path: str) -> None:
    """Check that a report's name is one of HTML.

    Raises
    ------
    ConfigError
        It is not.
    """
    if not path.lower().endswith((".html", ".htm")):
        raise ConfigError(f"--report is {path!r}; expected a name that ends with .html")


def write_html(
    path: str,
    *,
    title: str,
    facts: Mapping[str, str],
    sections: Sequence[Section],
    provenance: Mapping[str, Any],
    force: bool = False,
) -> None:
    """Write a report, whole or not at all.

    Parameters
    ----------
    path
        The file.
    title
        Its heading.
    facts
        The few numbers at the top: what they are, and the numbers.
    sections
        What it tells, in order.
    provenance
        What made it; nested mappings and lists become lines of the last table.
    force
        Overwrite an existing file.

    Raises
    ------
    OutputError
        The file exists, or cannot be written.
    """
    from jinja2 import Environment

    engine = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    engine.tests |= {
        "table": lambda part: isinstance(part, Table),
        "picture": lambda part: isinstance(part, Picture),
        "number": lambda cell: isinstance(cell, int | float),
    }
    engine.filters["shown"] = _shown
    page = engine.from_string(_PAGE).render(
        title=title, facts=facts, written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        sections=[*sections, Section("How it was made", [Table((), list(_flat(provenance)))])],
    )  # fmt: skip
    with open_output(path, force=force) as out:
        # A surrogate, from a file name that is no UTF-8, cannot be written.
        out.write(page.encode("utf-8", "replace").decode())


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return "–" if cell != cell else f"{cell:,.4g}" if abs(cell) >= 1e4 else f"{cell:.4f}"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            rows += _flat(item, f"{prefix}{key}.")
        elif item is not None and item != []:
            text = " ".join(map(str, item)) if isinstance(item, list | tuple) else str(item)
            rows.append((prefix + key, text))
    return rows


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>
body { font: 15px/1.55 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; color: #1f2933; background: #f4f5f7; margin: 0; }
main { max-width: 980px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; overflow-wrap: anywhere; }
.written { color: #6b7785; margin: 0 0 20px; }
.facts { display: flex; flex-wrap: wrap; gap: 12px; margin: 0 0 20px; }
.facts div { background: #fff; border: 1px solid #dfe3e8; border-radius: 8px; padding: 10px 16px; }
.facts dt { color: #6b7785; font-size: 12.5px; }
.facts dd { margin: 0; font-size: 21px; font-weight: 600; font-variant-numeric: tabular-nums; }
section { background: #fff; border: 1px solid #dfe3e8; border-radius: 8px; padding: 16px 22px 20px; margin: 0 0 18px; }
h2 { font-size: 18px; margin: 0 0 8px; }
p { margin: 6px 0 10px; max-width: 76ch; }
figure { margin: 12px 0 4px; }
img { max-width: 100%; height: auto; display: block; }
figcaption, caption { color: #56616e; font-size: 13px; text-align: left; padding: 2px 0 6px; }
.scroll { overflow-x: auto; margin: 10px 0 4px; }
table { border-collapse: collapse; font-size: 13.5px; }
th { text-align: left; font-weight: 600; color: #56616e; border-bottom: 2px solid #dfe3e8; padding: 4px 14px 4px 0; white-space: nowrap; }
td { padding: 3px 14px 3px 0; border-bottom: 1px solid #eceff2; vertical-align: top; overflow-wrap: anywhere; max-width: 620px; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
@media print { body { background: #fff; } section { break-inside: avoid; border: 0; padding: 0; } }
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
<p class="written">hyenadna, {{ written }}</p>
<dl class="facts">
{% for what, value in facts.items() %}
<div><dt>{{ what }}</dt><dd>{{ value }}</dd></div>
{% endfor %}
</dl>
{% for section in sections %}
<section>
<h2>{{ section.title }}</h2>
{% for part in section.parts %}
{% if part is picture %}
<figure>
{% if part.caption %}
<figcaption>{{ part.caption }}</figcaption>
{% endif %}
<img alt="{{ part.alt }}" src="data:image/png;base64,{{ part.base64 }}">
</figure>
{% elif part is table %}
<div class="scroll"><table>
{% if part.caption %}
<caption>{{ part.caption }}</caption>
{% endif %}
{% if part.header %}
<thead><tr>{% for cell in part.header %}<th{% if part.rows and part.rows[0][loop.index0] is number %} class="n"{% endif %}>{{ cell }}</th>{% endfor %}</tr></thead>
{% endif %}
<tbody>
{% for row in part.rows %}
<tr>{% for cell in row %}<td{% if cell is number %} class="n"{% endif %}>{{ cell | shown }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% else %}
<p>{{ part }}</p>
{% endif %}
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""
