"""Tables that ``datasets`` reads: parquet and Arrow files, folders that it saved, datasets of the hub."""

import inspect
import os
from collections.abc import Iterator, Mapping
from typing import Any

from mm_adapter.core.errors import UserError


class LoadedRows:
    """Rows of one split of a loaded dataset, with their places; pictures stay bytes."""

    def __init__(self, source: str, split: str, rows: Any) -> None:
        self.source, self.split = source, split
        self.columns: tuple[str, ...] = tuple(rows.column_names)
        self._rows = _undecoded(rows)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield place and record.

        Raises:
            UserError: text that is not UTF-8 and the like, which comes out only here.
        """
        try:
            for row, record in enumerate(self._rows):
                yield f"row {row}", record
        except (ValueError, OSError, ArithmeticError) as error:
            raise UserError(
                f"{self.source}: split {self.split!r} cannot be read ({error}). Download the files again."
            ) from error


def load_rows(source: str, function: str, *names: str, **options: Any) -> dict[str, LoadedRows]:
    """Return split -> rows as ``datasets`` loads them; no script of a dataset is run.

    Args:
        source: what the user named, for messages.
        function: ``load_dataset`` or ``load_from_disk``; ``names`` and ``options`` are its arguments. A dataset
            without splits is the split ``whole``.

    Raises:
        UserError: the dataset cannot be had or read.
    """
    import datasets

    call = getattr(datasets, function)
    if "trust_remote_code" in inspect.signature(call).parameters:
        options["trust_remote_code"] = False  # Old releases would run a script found in the dataset.
    hidden = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        loaded = call(*names, **options)
    except Exception as error:
        # The library raises its own, pyarrow's, the hub client's and the network's errors.
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split())[:300] or type(cause).__name__
        if "config name" in reason.lower():
            raise UserError(f"{source}: {reason} Write {source}:CONFIGURATION.") from error
        place = "a damaged file?" if os.path.exists(source) else "no such folder here, and not to be had from the hub"
        raise UserError(f"{source}: this dataset cannot be loaded, {place} ({reason}). Check --data.") from error
    finally:
        if not hidden:
            datasets.enable_progress_bars()
    splits = loaded if isinstance(loaded, Mapping) else {"whole": loaded}
    return {str(name): LoadedRows(source, str(name), rows) for name, rows in splits.items()}


def _undecoded(rows: Any) -> Any:
    """Return the rows so that nothing untrusted is decoded while they are read."""
    import datasets

    for name, feature in rows.features.items():
        inner = getattr(feature, "feature", None)
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
        elif isinstance(inner, datasets.Image):
            rows = rows.cast_column(name, type(feature)(datasets.Image(decode=False)))
    plain = [name for name, feature in rows.features.items() if type(feature).__name__ not in ("Audio", "Video", "Pdf")]
    return rows.select_columns(plain) if len(plain) < len(rows.features) else rows
