"""Agreement with recorded outputs of the original multimodal V2 model."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import open_clip
import torch
from official_parity import read_recorded
from torch import Tensor

from mm_adapter.adapter import Adapter
from mm_adapter.adapter.formats.official_v2 import read_official_v2
from mm_adapter.core.errors import UserError
from mm_adapter.inference.generation import generate_tokens
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.llama.model import Llama
from mm_adapter.vision import ImageTower, VisionConfig

_KINDS = ("clip_tokens", "visual_query", "logits", "logits_zero_image", "greedy")
_EPSILONS = (1e-5, 1e-6)  # timm 0.3.2 and timm 1.0


def is_v2(folder: Path) -> bool:
    """Tell whether a folder of recorded outputs is one of V2."""
    return (folder / "clip").is_dir() or (folder / "base").is_dir()


def official_v2_errors(folder: Path) -> dict[str, float]:
    """Return the largest absolute error of every recorded output, of written tokens how many differ, by name.

    Heads and epsilon of the visual blocks stand in no file: those that meet the recorded visual query best are taken
    and printed; every other output is computed with them.

    Args:
        folder: base/, clip/, checkpoints and expected.safetensors, in which the outputs of ``BIAS-tiny.pth`` are named
            ``bias.logits`` and so on.

    Raises:
        UserError: a file or tensor is missing or damaged, or something was recorded that is not computed here.
    """
    expected = read_recorded(folder / "expected.safetensors")
    for name in ("images", "tokens"):
        if name not in expected:
            raise UserError(f"{folder}: {name} was not recorded.")
    base, tower = load_llama(str(folder / "base")).model, _tower(folder / "clip")
    errors: dict[str, float] = {}
    for prefix, path in _checkpoints(folder, expected):
        recorded = {kind: expected[f"{prefix}.{kind}"] for kind in _KINDS if f"{prefix}.{kind}" in expected}
        if "visual_query" not in recorded:
            raise UserError(f"{folder}: {prefix}.visual_query was not recorded.")
        with torch.no_grad():
            found = _outputs(path, base, tower, expected, recorded)
        errors |= {f"{prefix}.{kind}": _error(folder, prefix, kind, recorded[kind], found[kind]) for kind in recorded}
    unknown = [name for name in expected if name not in errors and name not in ("images", "tokens")]
    if unknown:
        raise UserError(f"{folder}: {unknown[0]} was recorded but is not computed here; another version of the layout?")
    return errors


def _tower(folder: Path) -> ImageTower:
    configurations = sorted(folder.glob("*.json"))
    if len(configurations) != 1:
        raise UserError(f"{folder}: {len(configurations)} configurations of open_clip; one is wanted.")
    open_clip.add_model_config(configurations[0])
    weights = configurations[0].with_suffix(".safetensors")
    return ImageTower(VisionConfig(f"{configurations[0].stem}/{weights}", output="tokens"))


def _checkpoints(folder: Path, expected: Mapping[str, Tensor]) -> Iterator[tuple[str, Path]]:
    """Yield the prefix of recorded names and the checkpoint that it belongs to."""
    files = {path.stem.lower().replace("-", "_"): path for path in folder.glob("*.pth")}
    for prefix in sorted({name.partition(".")[0] for name in expected if "." in name}):
        path = next((path for stem, path in files.items() if f"{stem}_".startswith(f"{prefix}_")), None)
        if path is None:
            raise UserError(f"{folder}: outputs of {prefix} were recorded, but there is no such checkpoint.")
        yield prefix, path


def _outputs(
    path: Path, base: Llama, tower: ImageTower, expected: Mapping[str, Tensor], recorded: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    seen = tower.encode(expected["images"][:, None])  # (B, T, E)
    adapter, query = _nearest(path, base, seen, recorded["visual_query"])
    model, tokens = adapter.tuned(base), expected["tokens"].long()
    prefixes = adapter.prefixes(model, seen)
    found = {"clip_tokens": seen, "visual_query": query, "logits": model(tokens, prefixes=prefixes)}
    found["logits_zero_image"] = model(tokens, prefixes=adapter.prefixes(model, tower.blank_features()))
    if "greedy" in recorded:
        length = recorded["greedy"].shape[1]
        found["greedy"] = torch.tensor(generate_tokens(model, tokens.tolist(), [], prefixes, length))
    return found


def _nearest(path: Path, base: Llama, seen: Tensor, recorded: Tensor) -> tuple[Adapter, Tensor]:
    """Return the adapter whose visual query is nearest to the recorded one, over heads and epsilons, and that query."""
    first, _ = read_official_v2(path, base.config, 1)
    heads = [count for count in range(1, 65) if first.config.query_width % count == 0]
    best: tuple[float, Adapter, Tensor] | None = None
    for count in heads:
        for epsilon in _EPSILONS:
            adapter, _ = read_official_v2(path, base.config, count, epsilon)
            assert adapter.visual_query is not None
            query = adapter.visual_query(seen)
            if query.shape != recorded.shape:
                raise UserError(
                    f"{path}: its visual query has shape {tuple(query.shape)}, not {tuple(recorded.shape)}."
                )
            error = float((query - recorded).abs().max())
            if best is None or error < best[0]:
                best = error, adapter, query
    assert best is not None
    config = best[1].config
    print(f"{path.name}: {config.query_heads} heads, epsilon {config.query_epsilon:g} in the visual blocks")
    return best[1], best[2]


def _error(folder: Path, prefix: str, kind: str, recorded: Tensor, found: Tensor) -> float:
    if recorded.shape != found.shape:
        shapes = f"{tuple(recorded.shape)}, here it has shape {tuple(found.shape)}"
        raise UserError(f"{folder}: {prefix}.{kind} was recorded with shape {shapes}.")
    if kind == "greedy":
        return float((recorded != found).sum())
    return float((found - recorded).abs().max())
