"""``mm-adapter inspect``."""

import json as json_text
from typing import Annotated

from cyclopts import Parameter

from mm_adapter.cli.options import Json, Value
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import DEFAULT_LLAMA, check_place

NOTES = ("The exit status is 2 where it cannot be used.",)
EXAMPLES = ("mm-adapter inspect runs/first", "mm-adapter inspect model.gguf --json")


def inspect(
    name: Annotated[
        str, Parameter(help="Look at this file or folder, or at the model of this name."), Value("PATH|NAME")
    ],
    /,
    *,
    json: Json = False,
) -> None:
    """Say what a model, adapter or feature store is, and if it can be used."""
    check_place(name, [DEFAULT_LLAMA])
    from mm_adapter.inference.inspection import inspect as look_at

    found = look_at(name)
    print(json_text.dumps(found.to_json(), ensure_ascii=False) if json else found.to_text())
    if not found.usable:
        raise UserError(f"{name} is not usable: {found.reason}")
