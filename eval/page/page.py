"""The page: one file that needs nothing else, from no network, and runs no script but its own."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from mm_adapter.eval.official_report import Table
from mm_adapter.eval.page.plots import Plot
from mm_adapter.eval.page.thumbnails import Thumbnails
from mm_adapter.eval.plain_text import visible

_CHUNK = 256  # pictures that the page unpacks at a time


@dataclass(frozen=True)
class Part:
    """A table with its title, in the page and in files of their own.

    Attributes:
        name: of its files.
        title, text: what it shows, and how to read it.
        table: header first.
        folded: shown only when asked for, since it is long.
    """

    name: str
    title: str
    text: str
    table: Table
    folded: bool = False


def render_page(
    title: str,
    remarks: Sequence[str],
    parts: Sequence[Part],
    plots: Sequence[Plot],
    browser: Mapping[str, Any],
    pictures: Thumbnails,
) -> str:
    """Return the page's HTML.

    Everything that comes from outside is text to it: escaped by the template, or in a block of JSON that the page's
    script only ever puts into text nodes. A content security policy allows the page's own script, known by its hash,
    and nothing from elsewhere.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_own("report.html.jinja"))
    script = _own("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    chunks = [pictures.images[start : start + _CHUNK] for start in range(0, len(pictures.images), _CHUNK)]
    return template.render(
        title=visible(title, 200),
        remarks=[visible(remark, 600) for remark in remarks],
        parts=[_shown(part) for part in parts],
        plots=[{"title": plot.title, "text": plot.text, "name": plot.name, "svg": plot.svg()} for plot in plots],
        style=_own("report.css"),
        script=script,
        script_digest=digest,
        browser=_json(browser),
        pictures=[_json(list(chunk)) for chunk in chunks],
        chunk=_CHUNK,
        subjects=sorted({row[5] for row in browser["questions"]}),
        systems=browser["systems"],
        count=len(browser["questions"]),
    )


def _shown(part: Part) -> dict[str, Any]:
    header, *body = [[visible(cell, 300) for cell in row] for row in part.table]
    words = [
        place == 0 or any(row[place][:1].isalpha() for row in body if len(row) > place) for place in range(len(header))
    ]
    return {
        "name": part.name, "title": part.title, "text": part.text, "folded": part.folded,
        "header": header, "body": body, "words": words,
    }  # fmt: skip


def _json(value: Any) -> str:
    # "<" would end the block it stands in; halves of surrogate pairs are no UTF-8; the rest is shorter as it is.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _own(name: str) -> str:
    return resources.files("mm_adapter.eval.page").joinpath(name).read_text(encoding="utf-8")
