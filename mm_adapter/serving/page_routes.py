"""The page to ask on: three files, some examples, and a policy by which nothing else is fetched."""

import base64
import io
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from mm_adapter.data.demo import split_digits
from mm_adapter.data.demo.visual import draft_visual
from mm_adapter.serving.preparing import Preparation

FILES = {"/": "index.html", "/page/page.css": "page.css", "/page/ask.js": "ask.js", "/page/draw.js": "draw.js"}
EXAMPLES = "/page/examples.json"
OPEN = frozenset((*FILES, EXAMPLES))
"""Paths that hold nothing of a model or a user: with a token, too, they need none, so that the page can ask for it."""
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    # The browser itself sees to it that no request leaves the machine.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_PICTURES = 4


def page_routes(preparation: Preparation) -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter(include_in_schema=False)
    folder = Path(__file__).parent / "page"

    def serve(path: str, name: str) -> None:
        content, kind = (folder / name).read_bytes(), _KINDS[Path(name).suffix]

        @router.get(path)
        async def file() -> Response:
            return Response(content, media_type=f"{kind}; charset=utf-8", headers=_HEADERS)

    for path, name in FILES.items():
        serve(path, name)

    @router.get(EXAMPLES)
    async def examples() -> JSONResponse:
        return JSONResponse(await preparation.run(_examples), headers=_HEADERS)

    return router


@cache
def _examples() -> list[dict[str, Any]]:
    """Return questions of the generated set's test split, one of a kind, and one without a picture."""
    found: dict[str, dict[str, Any]] = {}
    for draft in draft_visual(60, split_digits(0)["test"], Random("mm-adapter page")):
        if draft.picture is not None and draft.skill not in found and len(found) < _PICTURES:
            content = io.BytesIO()
            draft.picture().save(content, "PNG")
            uri = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
            asked = {"question": draft.question, "choices": draft.options, "context": draft.context, "image": uri}
            found[draft.skill] = asked
    plants = {"question": "What do plants take up through their roots?", "choices": ["water", "light", "air"]}
    return [*found.values(), {**plants, "context": "", "image": None}]
