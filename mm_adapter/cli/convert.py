"""``mm-adapter convert``."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mm_adapter.cli.options import Count, Value
from mm_adapter.core.files import DEFAULT_LLAMA, check_exists, check_place

EXAMPLES = (
    "mm-adapter convert --from official --adapter adapter.pth --llama llama-7b --out converted",
    "mm-adapter convert --to peft --adapter runs/alpaca --out for-peft",
)
NOTES = ("A conversion that would lose something is refused.",)

Format = Literal["mm-adapter", "official", "peft", "litgpt"]


def convert(
    *,
    source: Annotated[Format, Parameter(name="--from", help="Read --adapter in this format.")] = "mm-adapter",
    target: Annotated[Format, Parameter(name="--to", help="Write this format.")] = "mm-adapter",
    adapter: Annotated[Path, Parameter(help="Convert the adapter in this folder or file."), Value("PATH")],
    llama: Annotated[
        str | None,
        Parameter(help="Use this base model; required unless the adapter is of mm-adapter."),
        Value("NAME|PATH"),
    ] = None,
    out: Annotated[Path, Parameter(help="Write the converted adapter into this folder."), Value("FOLDER")],
    layers: Annotated[
        Count | None,
        Parameter(help="Give an official adapter this many layers; by default one for ten prompts."),
    ] = None,
    gate: Annotated[
        Literal["tanh", "plain"] | None,
        Parameter(
            help="Take the gates of an official adapter as its training code does (tanh, by default) or as its "
            "inference code does (plain)."
        ),
    ] = None,
    qkv: Annotated[
        Literal["concatenated", "interleaved"] | None,
        Parameter(
            help="Take a litgpt checkpoint as 0.5.5 and later write it (concatenated, by default) or as earlier "
            "ones do (interleaved)."
        ),
    ] = None,
) -> None:
    """Convert an adapter from or to the original V1 code, PEFT or litgpt."""
    if llama is not None:
        check_place(llama, [DEFAULT_LLAMA])
    check_exists(adapter, "the adapter")
    from mm_adapter.adapter.formats.conversion import convert as convert_adapter

    convert_adapter(source, target, adapter, out, llama, layers, gate, qkv)
