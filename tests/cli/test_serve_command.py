"""``mm-adapter serve``: what is wrong is said before a model is loaded. The server itself: tests/serving."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mm_adapter.cli.serve import _named
from mm_adapter.core.errors import UserError
from mm_adapter.serving.address import listen

SAVED = Path(__file__).resolve().parent.parent / "saved"


def test_mistakes_are_named(refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders, names, addresses and numbers; none of it loads a model."""
    monkeypatch.delenv("MM_ADAPTER_TOKEN", raising=False)
    monkeypatch.setattr("mm_adapter.llama.checkpoints.load.load_llama", lambda *_: pytest.fail("a model is loaded"))
    text = str(SAVED / "text")
    assert "adapter_config.json" in refused("serve", "--adapter", f"mine={tmp_path}")
    assert "write NAME=FOLDER" in refused("serve", "--adapter", "=x")
    assert "there twice" in refused("serve", "--adapter", text, "--adapter", f"text={text}")
    assert "MM_ADAPTER_TOKEN is not set" in refused("serve", "--adapter", text, "--host", "0.0.0.0")
    assert "--port" in refused("serve", "--port", "70000")
    assert "--rows" in refused("serve", "--rows", "0")
    with listen("127.0.0.1", 0) as socket:
        assert "in use" in refused("serve", "--adapter", text, "--port", socket.getsockname()[1])
    monkeypatch.setenv("MM_ADAPTER_TOKEN", "two words\n")
    assert "printable ASCII" in refused("serve", "--adapter", text)


def test_adapters_have_names() -> None:
    """Their own, or that of their folder; a path may hold an equals sign once a name stands before it."""
    assert _named(("runs/first", "maps=runs/a=b")) == {"first": Path("runs/first"), "maps": Path("runs/a=b")}
    with pytest.raises(UserError, match="NAME=FOLDER"):
        _named(("maps=",))


def test_nothing_of_the_server_is_imported_elsewhere() -> None:
    """Neither its rooms nor its packages come with the commands that do without."""
    code = (
        "import sys; from mm_adapter.cli import main; main(['serve', '--help']); import mm_adapter.cli.answer, "
        "mm_adapter.cli.train, mm_adapter.model; print([name for name in sys.modules if name.split('.')[0] in "
        "('fastapi', 'uvicorn', 'starlette') or name == 'mm_adapter.serving.engine'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
