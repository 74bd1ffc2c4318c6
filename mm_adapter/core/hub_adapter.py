"""Adapters of the Hugging Face hub: their few files by name, of one commit, none larger than such a file can be."""

from pathlib import Path

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import HUB, check_place

_LARGEST_TEXT, _LARGEST_WEIGHTS = 2**20, 4 * 2**30  # bytes
FILES = {
    "adapter_config.json": _LARGEST_TEXT,
    "adapter_model.safetensors": _LARGEST_WEIGHTS,
    "run.json": _LARGEST_TEXT,
}
"""What is fetched -> most bytes that it may have. The last one, which says what was held out, need not be there."""
_OPTIONAL = ("run.json",)


def fetch_adapter(name: str) -> Path:
    """Return the folder with the files of an adapter in the hub's own cache; what is there is not fetched again.

    Args:
        name: ``hub:owner/name``.

    Raises:
        UserError: the hub has no such adapter or cannot be reached, or a file is larger than any adapter's.
    """
    check_place(name)
    repo = name.removeprefix(HUB)
    revision: str | None = None
    folder = Path()
    for file, largest in FILES.items():
        path = _fetch(repo, file, largest, revision)
        if path is None and file not in _OPTIONAL:
            raise UserError(f"{name}: has no {file}, so it is no adapter of mm-adapter.")
        if path is not None:
            # The weights of one commit do not belong to the configuration of another one.
            folder, revision = path.parent, path.parent.name
    return folder


def is_adapter(name: str) -> bool:
    """Tell whether ``hub:owner/name`` is an adapter, ours or another project's, and no model.

    Raises:
        UserError: as `fetch_adapter`.
    """
    check_place(name)
    file = "adapter_config.json"
    return _fetch(name.removeprefix(HUB), file, FILES[file], None) is not None


def _fetch(repo: str, file: str, largest: int, revision: str | None) -> Path | None:
    """Return the path of a fetched file; None where the repository has none of that name."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        local = False
        try:
            size = get_hf_file_metadata(hf_hub_url(repo, file, revision=revision)).size
        except (HfHubHTTPError, EntryNotFoundError):
            raise
        except Exception:  # no network, or told to do without: what was fetched before is good enough
            local, size = True, 0
        if size is None or size > largest:
            said = "does not say its size" if size is None else f"has {size:,} bytes"
            raise UserError(f"{HUB}{repo}: {file} {said}; an adapter's has at most {largest:,}. It was not fetched.")
        path = Path(hf_hub_download(repo, file, revision=revision, local_files_only=local))
        if path.stat().st_size > largest:
            raise UserError(f"{HUB}{repo}: {file} is larger than the hub said; it is not used.")
        return path
    except UserError:
        raise
    except EntryNotFoundError as error:
        # Offline, what is not in the cache may well be on the hub.
        if not isinstance(error, LocalEntryNotFoundError) or file in _OPTIONAL:
            return None
        raise UserError(f"{HUB}{repo}: {file} was not fetched before, and the hub cannot be reached.") from error
    except Exception as error:  # network, authorisation and naming errors of the library, all for the user
        reason = next(iter(str(error).split("\n")), "") or type(error).__name__
        raise UserError(
            f"{HUB}{repo}: cannot be fetched from the hub ({reason}). Check the name and the network, log in with "
            "hf auth login where it is private, or download it and name the folder."
        ) from error
