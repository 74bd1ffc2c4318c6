"""Features of many pictures, computed once and kept in a safetensors store."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_atomically
from mm_adapter.core.images import content_hash, open_image
from mm_adapter.core.progress import progress_bar
from mm_adapter.distributed import SINGLE_PROCESS, DistributedContext
from mm_adapter.vision import ImageTower

if TYPE_CHECKING:
    from mm_adapter.vision.token_store import TokenStore


class FeatureStore:
    """Features of pictures by content: one safetensors file per tower and way of looking.

    The file's name is a digest of tower, weights and views, its keys are the SHA-256 of picture files. Renamed or
    repeated pictures are found again, changed ones are not; another tower never meets them. Tokens are in a folder of
    that name instead, see ``TokenStore``.

    Attributes:
        features: by key, on disk or not yet; None where the tower gives tokens.
        tokens: the store of those; None where it gives global features.
    """

    def __init__(self, folder: Path, tower: ImageTower) -> None:
        config = tower.config
        self.description = {
            "tower": config.tower,
            "fingerprint": tower.fingerprint,
            "depths": str(config.depths),
            "views": ",".join(config.views),
        }
        # Named only where they differ, so that the stores of earlier versions are found.
        if config.output != "global":
            self.description["output"] = config.output
        if config.channel_order != "rgb":
            self.description["channel_order"] = config.channel_order
        digest = hashlib.sha256(json.dumps(self.description, sort_keys=True).encode()).hexdigest()
        name = f"{config.tower.replace('/', '-').replace(':', '-')}-{digest[:12]}"
        self.path = folder / (f"{name}.safetensors" if config.output == "global" else name)
        self.features: dict[str, Tensor] = self._read() if self.path.is_file() else {}
        self.tokens = None if config.output == "global" else _token_store(self.path, self.description)

    def __contains__(self, key: str) -> bool:
        return key in (self.features if self.tokens is None else self.tokens)

    def __len__(self) -> int:
        return len(self.features if self.tokens is None else self.tokens)

    def add(self, key: str, features: Tensor) -> None:
        """Keep the features ``(F,)`` or ``(T, E)`` of a picture."""
        if self.tokens is None:
            self.features[key] = features
        else:
            self.tokens.add(key, features)

    def by_picture(self, keys: Mapping[Path, str]) -> Mapping[Path, Tensor]:
        """Return the features of pictures by path; tokens are read when they are asked for."""
        if self.tokens is None:
            return {path: self.features[key] for path, key in keys.items()}
        return self.tokens.by_picture(keys)

    def _read(self) -> dict[str, Tensor]:
        try:
            with safe_open(self.path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError) as error:
            raise UserError(f"{self.path}: damaged feature store ({error}). Delete it; it is made again.") from error

    def save(self) -> None:
        """Write what is not on disk yet, atomically."""
        if self.tokens is not None:
            self.tokens.save()
            return
        write_atomically(self.path, lambda path: save_file(self.features, path, metadata=self.description))


def extract_features(
    tower: ImageTower,
    images: Iterable[Path],
    folder: Path,
    batch_size: int = 16,
    skip_bad: bool = False,
    progress: bool = True,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> tuple[Mapping[Path, Tensor], dict[Path, str]]:
    """Return the features of every picture, reading known ones from the store in ``folder`` and computing the rest.

    Pictures are decoded and preprocessed on threads while the tower works on the batch before; equal pictures are
    computed once. What is done is saved even where a later picture fails.

    Args:
        tower: frozen image tower.
        images: files; repeats are welcome.
        folder: of the store.
        batch_size: pictures per pass of the tower.
        skip_bad: return bad pictures by name and reason instead of raising at the first.
        progress: show a progress bar on stderr.
        distributed: the processes that share whole batches of pictures; the first one writes the store.

    Returns:
        Features by path, and the reasons for those that could not be read: ``(F,)`` float32, or tokens ``(T, E)``, in
        float16 and from the disk when they are asked for.

    Raises:
        UserError: a picture is missing or bad and ``skip_bad`` is false, or the store cannot be written.
    """
    if tower.config.output == "global":
        store = distributed.broadcast(FeatureStore(folder, tower) if distributed.is_main else None)
    else:
        store = FeatureStore(folder, tower)
    keys: dict[Path, str] = {}
    bad: dict[Path, str] = {}
    missing: dict[str, Path] = {}
    for path in dict.fromkeys(images):
        try:
            keys[path] = content_hash(path)
        except UserError as error:
            if not skip_bad:
                raise
            bad[path] = str(error)
            continue
        if keys[path] not in store:
            missing.setdefault(keys[path], path)
    if store.tokens is not None:
        missing = distributed.broadcast(missing)  # another rank may have written some since
    failed: dict[str, str] = {}
    if missing:
        try:
            own, message = _own_part(missing, batch_size, distributed), None
            try:
                _compute(tower, own, store, failed, batch_size, skip_bad, progress)
            except UserError as error:
                message = str(error)  # of one rank; what the others have computed is kept
            messages = _exchange(store, own, failed, message, distributed)
            if messages:
                raise UserError(messages[0])
        finally:
            if distributed.is_main or store.tokens is not None:
                store.save()
    bad |= {path: failed[key] for path, key in keys.items() if key in failed}
    return store.by_picture({path: key for path, key in keys.items() if key not in failed}), bad


def _exchange(
    store: FeatureStore,
    own: Iterable[str],
    failed: dict[str, str],
    message: str | None,
    distributed: DistributedContext,
) -> list[str]:
    """Make what each rank has computed, and the pictures that ``failed``, known to all.

    Returns:
        What went wrong, on any rank.

    Raises:
        UserError: a rank does not see the files of tokens that another has written.
    """
    found = {key: store.features[key] for key in own if key in store.features}
    if store.tokens is not None:
        store.tokens.save()  # each rank's own files; the others find them
    messages = []
    for computed, errors, told in distributed.gather((found, failed, message)):
        store.features.update(computed)
        failed.update(errors)
        messages += [] if told is None else [told]
    if store.tokens is not None:
        store.tokens.reload()
        if len(set(distributed.gather(len(store)))) > 1:
            raise UserError(f"{store.path}: not every process sees the same files; name a folder that all hosts share.")
    return messages


def _token_store(folder: Path, description: Mapping[str, str]) -> "TokenStore":
    # Imported here: most runs take global features.
    from mm_adapter.vision.token_store import TokenStore

    return TokenStore(folder, description)


def _own_part(missing: dict[str, Path], batch_size: int, distributed: DistributedContext) -> dict[str, Path]:
    """Return this rank's pictures: whole batches, since what else is in a batch decides the last digits."""
    items = list(missing.items())
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    return dict(item for batch in distributed.shard(batches) for item in batch)


def _compute(
    tower: ImageTower,
    missing: dict[str, Path],
    store: FeatureStore,
    failed: dict[str, str],
    batch_size: int,
    skip_bad: bool,
    progress: bool,
) -> None:
    device = next(tower.parameters()).device
    bar = progress_bar(len(missing), "image features", "picture", not progress)
    with bar, ThreadPoolExecutor(max_workers=2) as pool:
        pending: list[tuple[str, Tensor]] = []
        for key, views in _prepared(tower, missing, pool, batch_size):
            bar.update()
            if isinstance(views, UserError):
                if not skip_bad:
                    raise views
                failed[key] = str(views)
                continue
            pending.append((key, views))
            if len(pending) == batch_size:
                _encode(tower, pending, store, device)
        if pending:
            _encode(tower, pending, store, device)


def _prepared(
    tower: ImageTower, missing: dict[str, Path], pool: ThreadPoolExecutor, batch_size: int
) -> Iterator[tuple[str, Tensor | UserError]]:
    """Yield preprocessed pictures in order, at most two batches ahead of the reader, errors as values."""

    def prepare(path: Path) -> Tensor | UserError:
        try:
            return tower.preprocess(open_image(path))
        except UserError as error:
            return error

    items = list(missing.items())
    ahead = 2 * batch_size
    futures = [pool.submit(prepare, path) for _, path in items[:ahead]]
    for index, (key, _) in enumerate(items):
        result = futures[index].result()
        futures[index] = None  # type: ignore[call-overload]  # frees the pixels
        if index + ahead < len(items):
            futures.append(pool.submit(prepare, items[index + ahead][1]))
        yield key, result


def _encode(tower: ImageTower, pending: list[tuple[str, Tensor]], store: FeatureStore, device: torch.device) -> None:
    features = tower.encode(torch.stack([views for _, views in pending]).to(device)).cpu()
    for (key, _), feature in zip(pending, features, strict=True):
        store.add(key, feature.clone())
    pending.clear()
