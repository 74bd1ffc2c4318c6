"""What a path is that is no model, adapter or feature store of ours, as far as its name and contents tell."""

from pathlib import Path

from mm_adapter.adapter.formats.litgpt import of_second_version
from mm_adapter.core.errors import UserError
from mm_adapter.llama.checkpoints.source import read_tensors

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_OF_LITGPT = (".pth.adapter", ".pth.adapter_v2")
_MODEL_FILES = ("config.json", "params.json", "*.gguf", "*.safetensors", "*.bin", "*.pth")


def foreign_adapter(path: Path) -> tuple[str, str] | None:
    """Return the kind of an adapter of litgpt or a file of torch, and why it is not usable as it is; else None."""
    files = [path] if path.is_file() else []
    files += [file for end in _OF_LITGPT for file in path.glob(f"*{end}")] if path.is_dir() else []
    found = next((file for file in files if file.name.endswith(_OF_LITGPT)), None)
    if found is not None:
        try:
            version = 1 if of_second_version(read_tensors(found)) is None else 2
        except UserError as error:
            return "adapter", str(error)
        advice = "not supported" if version == 2 else "convert it with mm-adapter convert --from litgpt"
        return "adapter", f"{found}: an adapter v{version} of litgpt; {advice}."
    if path.is_file() and path.suffix == ".pth":
        reason = (
            f"{path}: a file of torch. Of a model name the folder; convert an adapter of the original with "
            "mm-adapter convert --from official, or --from official-v2 for the multimodal V2."
        )
        return "file", reason
    return None


def kind_of(path: Path) -> str:
    """Return what a path that cannot be opened as a model is, as far as its name and contents tell."""
    if path.is_dir():
        return "model" if any(any(path.glob(name)) for name in _MODEL_FILES) else "folder"
    if path.suffix.lower() in _PICTURES:
        return "picture"
    return "model" if path.suffix in (".gguf", ".safetensors", ".bin") else "file"
