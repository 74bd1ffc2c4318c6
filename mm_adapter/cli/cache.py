"""``mm-adapter cache``."""

import json as json_text
from typing import Annotated, Literal

from cyclopts import Parameter

from mm_adapter.cli.options import Json, Value
from mm_adapter.core.cache import KINDS, CachePart, cache_parts, clear_cache
from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.files import cache_folder

EXAMPLES = ("mm-adapter cache list", "mm-adapter cache clear features images --yes", "mm-adapter cache clear all")
NOTES = ("The folder is MM_ADAPTER_CACHE, or that of the user.",)


def cache(
    action: Annotated[
        Literal["list", "clear"], Parameter(help="Say what is there, or delete it."), Value("list|clear")
    ],
    /,
    *kinds: Annotated[
        str,
        Parameter(help=f"Clear these: {', '.join(KINDS)}, or all; required with clear."),
        Value("KIND"),
    ],
    yes: Annotated[bool, Parameter(help="Delete; without it is said what would be deleted.")] = False,
    json: Json = False,
) -> None:
    """Say what lies in the cache folder and how large it is, or clear it by kind."""
    for kind in kinds:
        if kind not in (*KINDS, "all"):
            near = suggestion(kind, list(KINDS)) or "."
            raise UserError(f"there is no kind {kind!r}{near} There are: {', '.join(KINDS)}, all.")
    chosen = list(KINDS) if "all" in kinds else list(kinds)
    if action == "list":
        if yes:
            raise UserError("--yes is of clear; leave it out.")
        _show([part for part in cache_parts() if not chosen or part.kind in chosen], json)
        return
    if not chosen:
        raise UserError(f"clear what? Name kinds: {', '.join(KINDS)}, or all.")
    if not yes:
        parts = [part for part in cache_parts() if part.kind in chosen]
        told = ", ".join(f"{part.files:,} files of {part.kind}" for part in parts if part.files) or "nothing"
        size = sum(part.size for part in parts)
        raise UserError(f"{cache_folder()}: {told} ({_bytes(size)}) would be deleted. Say --yes to do it.")
    _show(clear_cache(chosen), json, deleted=True)


def _show(parts: list[CachePart], json: bool, deleted: bool = False) -> None:
    total = sum(part.size for part in parts)
    if json:
        rows = {part.kind: {"files": part.files, "bytes": part.size} for part in parts}
        print(json_text.dumps({"folder": str(cache_folder()), "bytes": total, "deleted": deleted, "kinds": rows}))
        return
    print(f"{cache_folder()}: {_bytes(total)}{' deleted' if deleted else ''}")
    for part in parts:
        print(f"  {part.kind:<9} {part.files:>8,} files {_bytes(part.size):>11}  {KINDS[part.kind]}")


def _bytes(size: int) -> str:
    return f"{size:,} bytes" if size < 1000 else f"{size / 1e3:,.1f} kB" if size < 10**6 else f"{size / 1e6:,.1f} MB"
