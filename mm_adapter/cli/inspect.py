"""``mm-adapter inspect``."""

import json as json_text
from typing import Annotated

from cyclopts import Parameter

from mm_adapter.cli.options import Json, Value

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
    from mm_adapter.inference.inspection import inspect as look_at

    found = look_at(name)
    print(json_text.dumps(found.to_json(), ensure_ascii=False) if json else found.to_text())
