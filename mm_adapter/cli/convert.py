"""``mm-adapter convert``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mm_adapter.cli.options import Count, Value
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import DEFAULT_LLAMA, HUB, check_exists, check_place

EXAMPLES = (
    "mm-adapter convert --from official --adapter adapter.pth --llama llama-7b --out converted",
    "mm-adapter convert --from official-v2 --adapter BIAS-7B.pth --llama llama-7b --out bias-7b",
    "mm-adapter convert --to peft --adapter runs/alpaca --out for-peft",
)
NOTES = ("A conversion that would lose something is refused.",)

Format = Literal["mm-adapter", "official", "official-v2", "peft", "litgpt"]


def convert(
    *,
    source: Annotated[Format, Parameter(name="--from", help="Read --adapter in this format.")] = "mm-adapter",
    target: Annotated[Format, Parameter(name="--to", help="Write this format.")] = "mm-adapter",
    adapter: Annotated[
        str, Parameter(help="Convert the adapter in this folder or file, or hub:owner/name."), Value("PATH")
    ],
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
    vision: Annotated[
        str | None,
        Parameter(
            help="Let an adapter of official-v2 see with this CLIP; by default ViT-L-14/openai, as the original."
        ),
        Value("TOWER"),
    ] = None,
    query_heads: Annotated[
        Count | None,
        Parameter(help="Give the visual blocks of official-v2 this many heads; by default 16 where they are 768 wide."),
    ] = None,
    query_epsilon: Annotated[
        float | None,
        Parameter(
            help="Give the norms in the visual blocks of official-v2 this epsilon; by default 1e-5, as timm 0.3.2, "
            "which the original asks for (timm 1.0: 1e-6)."
        ),
        Value("EPSILON"),
    ] = None,
) -> None:
    """Convert an adapter from or to the original V1 and V2 code, PEFT or litgpt."""
    if llama is not None:
        check_place(llama, [DEFAULT_LLAMA])
    if adapter.startswith(HUB):
        check_place(adapter)
        if source not in ("mm-adapter", "peft"):
            raise UserError(f"{adapter}: an adapter of {source} is a file; download it and name its path.")
    else:
        check_exists(Path(adapter), "the adapter")
    from mm_adapter.adapter.checkpoint import adapter_folder
    from mm_adapter.adapter.formats.conversion import V2_TOWER, V2_VISION, TowerDescription
    from mm_adapter.adapter.formats.conversion import convert as convert_adapter

    if vision is not None and source != "official-v2":
        raise UserError("--vision is of official-v2, whose file names no tower; leave it out.")

    def tower() -> TowerDescription:
        from mm_adapter.vision import ImageTower, VisionConfig

        seen = VisionConfig(vision or V2_TOWER, **V2_VISION)  # type: ignore[arg-type]
        opened = ImageTower(seen)
        return TowerDescription({**asdict(seen), "fingerprint": opened.fingerprint}, opened.feature_size)

    convert_adapter(
        source, target, adapter_folder(adapter), out, llama, layers, gate, qkv, query_heads, query_epsilon, tower
    )
