"""Files that ``torch.save`` wrote (``.pth``, ``.bin``), read as tensors alone: no pickled code is ever run."""

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mm_adapter.errors import UserError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.pth`` or ``.bin`` file, memory-mapped, with no pickled code executed.

    Raises:
        UserError: the file is missing, damaged, or holds anything but tensors by name; a pickled global is named.
    """
    _check_archive(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the unpickler raises whatever a damaged stream leads it to
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise UserError(
                f"{path}: refused: the file asks for {refused[1]}, which is no tensor; nothing in it was run. "
                "Use safetensors files of the model."
            ) from error
        said = re.search(r"WeightsUnpickler error: (.+)", str(error))
        reason = said[1] if said else (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable file of tensors ({reason}). Fetch it again.") from error
    content = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and type(value) in (Tensor, torch.nn.Parameter) for name, value in content.items()
    ):
        raise UserError(f"{path}: holds something other than tensors by name.")
    return {name: value.detach() for name, value in content.items()}


def _check_archive(path: Path) -> None:
    # Records that are compressed, or larger than the file, would be memory that the file does not pay for.
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            size = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, not a file of tensors.") from None
    except Exception as error:  # like torch's: whatever a damaged archive leads to
        raise UserError(
            f"{path}: not a readable file of tensors ({error}). Fetch it again; a file that torch wrote before "
            "version 1.6 must be loaded and saved once with a newer torch."
        ) from error
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise UserError(f"{path}: not a readable file of tensors (compressed records). Fetch it again.")
    if sum(record.file_size for record in records) > size:
        raise UserError(f"{path}: not a readable file of tensors (records larger than the file). Fetch it again.")
