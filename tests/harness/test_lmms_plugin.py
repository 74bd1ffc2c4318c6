"""lmms-eval finds our model by its entry point, without loading anything heavy for it."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mm_adapter.harness.lmms_eval_plugin import manifest

ROOT = Path(__file__).resolve().parent.parent.parent


class Manifest:
    """Takes what lmms-eval's own takes."""

    def __init__(self, model_id: str, simple_class_path: str) -> None:
        self.model_id, self.simple_class_path = model_id, simple_class_path


def test_the_entry_names_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point leads to the function, and what it returns to the class."""
    [entry] = re.findall(r'"lmms_eval.models": \["(.+)"\]', (ROOT / "setup.py").read_text())
    assert entry == f"mm-adapter={manifest.__module__}:{manifest.__name__}"
    register = ModuleType("lmms_eval.models.registry_v2")
    register.ModelManifest = Manifest  # type: ignore[attr-defined]
    for name in ("lmms_eval", "lmms_eval.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, register.__name__, register)
    found = manifest()
    assert found.model_id == "mm-adapter"
    module, name = found.simple_class_path.rsplit(".", 1)
    source = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    assert name in [node.name for node in source.body if isinstance(node, ast.ClassDef)]


def test_it_is_light() -> None:
    """lmms-eval reads it at every start, whichever model is asked for."""
    code = "import sys, mm_adapter.harness.lmms_eval_plugin as plugin; print('torch' in sys.modules, plugin.manifest)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("False <function manifest")
