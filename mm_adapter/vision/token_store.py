"""Tokens of many pictures: half-precision parts on disk that are read picture by picture, not held in memory."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_atomically

PART = 256
"""Pictures of one file; 257 tokens of 768 numbers each are 100 MB of them."""


class TokenStore:
    """Tokens of pictures by content, in a folder of safetensors files that are mapped into memory when they are read.

    Tokens are kept in float16, which is 2**-11 of each number at most, and in float32 where one of them is too large
    for that.

    Args:
        folder: of the files; made when the first is written.
        description: of tower and way of looking, written into each file.
    """

    def __init__(self, folder: Path, description: Mapping[str, str]) -> None:
        self.folder, self.description = folder, dict(description)
        self._files: dict[str, Any] = {}
        self._pending: dict[str, Tensor] = {}
        self.reload()

    def __contains__(self, key: str) -> bool:
        return key in self._files or key in self._pending

    def __getitem__(self, key: str) -> Tensor:
        if key in self._pending:
            return self._pending[key]
        tensor: Tensor = self._files[key].get_tensor(key)
        return tensor

    def __len__(self) -> int:
        return len(self._files.keys() | self._pending.keys())

    def by_picture(self, keys: Mapping[Path, str]) -> "StoredTokens":
        """Return the tokens of pictures, given the key of each."""
        return StoredTokens(keys, self)

    def reload(self) -> None:
        """Find what is on disk, what other processes have written included.

        Raises:
            UserError: a file is damaged.
        """
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                file = safe_open(path, framework="pt").__enter__()
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path}: damaged feature store ({error}). Delete it; it is made again.") from error
            for key in file.keys():  # noqa: SIM118 - not a mapping
                self._files.setdefault(key, file)

    def add(self, key: str, tokens: Tensor) -> None:
        """Keep the tokens ``(T, E)`` of a picture; every ``PART`` pictures they are written."""
        half = tokens.to(torch.float16).contiguous()
        self._pending[key] = half if bool(half.isfinite().all()) else tokens.float().clone().contiguous()
        if len(self._pending) == PART:
            self.save()

    def save(self) -> None:
        """Write what is not on disk yet, atomically, to a file of its own.

        Raises:
            UserError: it cannot be written.
        """
        if not self._pending:
            return
        # Named by content, so that processes that share a folder never write one file.
        name = hashlib.sha256("".join(sorted(self._pending)).encode()).hexdigest()[:16]
        pending = self._pending
        write_atomically(
            self.folder / f"{name}.safetensors", lambda path: save_file(pending, path, metadata=self.description)
        )
        self._pending = {}
        self.reload()


class StoredTokens(Mapping[Path, Tensor]):
    """Tokens ``(T, E)`` by picture, read from a store when they are asked for.

    Args:
        keys: of the store, by picture.
    """

    def __init__(self, keys: Mapping[Path, str], store: TokenStore) -> None:
        self._keys, self._store = keys, store

    def __getitem__(self, path: Path) -> Tensor:
        return self._store[self._keys[path]]

    def __iter__(self) -> Iterator[Path]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
