"""Reports: what data say is text on the page, and nothing else."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hyenadna.errors import ConfigError, OutputError
from hyenadna.io.html import Picture, Section, Table, require_html_name, write_html

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def _written(path: Path) -> _Seen:
    seen = _Seen()
    seen.feed(path.read_text("utf-8"))
    return seen


def test_hostile_names_are_text_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "x.html"
    parts = [HOSTILE, Table([HOSTILE], [[HOSTILE]], HOSTILE), Picture(b"PNG", HOSTILE, HOSTILE)]
    write_html(
        str(path), title=HOSTILE, facts={HOSTILE: HOSTILE}, sections=[Section(HOSTILE, parts)], provenance={HOSTILE: {HOSTILE: [HOSTILE]}}
    )  # fmt: skip
    seen = _written(path)
    assert "script" not in seen.tags
    assert seen.tags.count("img") == 1
    assert ("alt", HOSTILE) in seen.attributes
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert seen.text.count(HOSTILE) == 11


def test_the_check_of_tags_can_fail() -> None:
    seen = _Seen()
    seen.feed(f"<td>{HOSTILE}</td>")
    assert "script" in seen.tags


def test_page_asks_nothing_of_the_network(tmp_path: Path) -> None:
    path = tmp_path / "x.html"
    write_html(str(path), title="t", facts={}, sections=[Section("s", [Picture(b"1", "a")])], provenance={})  # fmt: skip
    links = [value for name, value in _written(path).attributes if name in ("src", "href")]
    assert links
    assert all((value or "").startswith("data:") for value in links)
    assert "default-src 'none'" in path.read_text()


def test_numbers_are_told_from_text(tmp_path: Path) -> None:
    path = tmp_path / "x.html"
    table = Table(("a", "b", "c", "d"), [(1234567, 0.123456, math.nan, "7")])
    provenance = {"model": "m", "input": {"bed": None, "regions": [], "words": ["a", 1]}}
    write_html(
        str(path), title="t", facts={}, sections=[Section("s", [table])], provenance=provenance
    )
    text = _written(path).text
    assert [cell for cell in text if cell in ("1,234,567", "0.1235", "–", "7")] == ["1,234,567", "0.1235", "–", "7"]  # fmt: skip
    assert "input.words" in text
    assert "a 1" in text
    assert "input.bed" not in text
    assert path.read_text().count('<td class="n">') == 3


def test_report_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.html"
    path.write_text("old")
    with pytest.raises(OutputError, match="exists already"):
        write_html(str(path), title="t", facts={}, sections=[], provenance={})
    assert path.read_text() == "old"
    write_html(str(path), title="t\udcff", facts={}, sections=[], provenance={}, force=True)
    assert "<title>t?</title>" in path.read_text("utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"]


def test_name_must_be_one_of_html() -> None:
    require_html_name("A.HTML")
    with pytest.raises(ConfigError, match=r"'x.txt'; expected a name that ends with .html"):
        require_html_name("x.txt")
