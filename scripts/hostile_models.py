"""Hostile models and adapters: headers that lie, wrong shapes, code in pickles, tokenizers and configurations."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from gguf import GGUFWriter
from hostile_process import Hostile, Outcome, command
from hostile_tokenizers import Code, Made, base_of, template_of, tokenizer
from safetensors.torch import load_file, save_file

_ODD: tuple[Any, ...] = (None, True, "4", 1.5, [], {}, [4], float("nan"), -1, 0, 10**9, 2**31, 2**63, 10**40)


def _adapter(folder: Path, places: dict[str, Any], name: str = "letters") -> Path:
    return Path(shutil.copytree(places[name], folder / "run"))


def _header(draw: Random, folder: Path, places: dict[str, Any]) -> Made:
    """A safetensors header that lies on its length, on offsets, shapes and types."""
    of_base = draw.random() < 0.5
    where = base_of(folder, places) if of_base else _adapter(folder, places)
    path = where / ("model.safetensors" if of_base else "adapter_model.safetensors")
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    kind = draw.choice(("length", "offsets", "shape", "dtype", "overlap", "names", "text", "twice"))
    name = draw.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    if kind == "length":
        path.write_bytes(struct.pack("<Q", draw.choice((2**63, 2**40, 1, 0, len(content)))) + content[8:])
        return "safetensors, length of its header", "base" if of_base else "adapter", where, True
    changes = {
        "offsets": {"data_offsets": draw.choice(([0, 2**62], [9, 3], [-1, 4], "x"))},
        "shape": {"shape": draw.choice(([2**31, 2**31], [-1], [2**63], "x", []))},
        "dtype": {"dtype": draw.choice(("F128", "BOOL", "I64", 3))},
        "overlap": {"data_offsets": [0, 4]},
    }
    header[name] = {**entry, **changes.get(kind, {})}
    if kind == "names":
        header = {f"{key}{chr(0)}" * (1 if key == "__metadata__" else 2000): value for key, value in header.items()}
    text = json.dumps(header)
    if kind == "twice":
        text = text[:-1] + f', "{name}": {json.dumps(entry)}' + "}"
    if kind == "text":
        text = draw.choice(("[" * 100_000, "{}", "null", '{"a": ' * 50_000))
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + body)
    return f"safetensors, {kind}", "base" if of_base else "adapter", where, kind != "twice"


def _shapes(draw: Random, folder: Path, places: dict[str, Any]) -> Made:
    """Tensors of other shapes and types, missing, surplus, not finite."""
    of_base = draw.random() < 0.5
    where = base_of(folder, places) if of_base else _adapter(folder, places)
    path = where / ("model.safetensors" if of_base else "adapter_model.safetensors")
    tensors = load_file(path)
    name = draw.choice(sorted(tensors))
    kind = draw.choice(("shape", "integers", "bool", "missing", "surplus", "nan", "empty", "complex"))
    tensor = tensors.pop(name)
    changed = {
        "shape": torch.zeros(3, 5),
        "integers": torch.zeros(tensor.shape, dtype=torch.int64),
        "bool": torch.zeros(tensor.shape, dtype=torch.bool),
        "surplus": tensor,
        "nan": torch.full_like(tensor, float("nan")),
        "empty": torch.zeros(0),
        "complex": torch.zeros(tensor.shape, dtype=torch.complex64),
    }
    if kind != "missing":
        tensors[name] = changed[kind]
    if kind == "surplus":
        tensors[f"{name}.more"] = torch.zeros(3)
    save_file(tensors, path)
    # A base with values that are not finite is taken as it is; what it says is then refused or told.
    refused = kind not in (("integers", "bool", "nan", "complex") if of_base else ("integers", "bool"))
    return f"tensor {name}, {kind}", "base" if of_base else "adapter", where, refused


def _adapter_config(draw: Random, folder: Path, places: dict[str, Any]) -> Made:
    """Fields of an adapter's configuration of wrong types or huge, or links out of its folder."""
    where = _adapter(folder, places, draw.choice(("letters", "sees")))
    path = where / "adapter_config.json"
    values = json.loads(path.read_text())
    part = draw.choice(("adapter", "llama", "vision", "task", "top", "link", "deep"))
    if part == "link":
        secret = places["canary"] / "secret.png"
        name = draw.choice(("adapter_model.safetensors", "adapter_config.json"))
        (where / name).unlink()
        (where / name).symlink_to(draw.choice((secret, "/etc/passwd", "/dev/zero", name)))
        return f"adapter, {name} a link out of its folder", "adapter", where, True
    if part == "deep":
        path.write_text(path.read_text()[:-2] + ', "more": ' + "[" * 100_000 + "]" * 100_000 + "}")
        return "adapter, deep configuration", "adapter", where, True
    value = draw.choice(_ODD)
    if part == "top" or not isinstance(values.get(part), dict):
        name = draw.choice(sorted(values))
        values[name] = value
    else:
        name = draw.choice(sorted(values[part]))
        values[part][name] = value
    path.write_text(json.dumps(values))
    return f"adapter, {part} {name} {value!r}", "adapter", where, False


def _pickle(draw: Random, folder: Path, places: dict[str, Any]) -> Made:
    """Weights in a pickle with code in it."""
    where = base_of(folder, places)
    (where / "model.safetensors").unlink()
    form = draw.choice(("torch", "plain", "legacy"))
    path = where / "pytorch_model.bin"
    code = Code(places["canary"])
    if form == "plain":
        path.write_bytes(pickle.dumps(code))
    else:
        torch.save({"a": code}, path, _use_new_zipfile_serialization=form == "torch")
    return f"pickle with code, {form}", "base", where, True


def _foreign(draw: Random, folder: Path, places: dict[str, Any]) -> Made:
    """An adapter of another project that is a pickle with code, for ``convert``."""
    where = folder / "foreign"
    where.mkdir()
    torch.save({"adapter": Code(places["canary"])}, where / "lit_model.pth.adapter")
    torch.save(Code(places["canary"]), where / "adapter_model.bin")
    (where / "adapter_config.json").write_text('{"peft_type": "ADAPTION_PROMPT", "adapter_len": 2}')
    kind, name = draw.choice((("peft", ""), ("litgpt", "lit_model.pth.adapter"), ("official", "lit_model.pth.adapter")))
    return "pickle with code in a foreign adapter", kind, where / name, True


def _gguf(draw: Random, folder: Path, places: dict[str, Any]) -> Made:
    """Counts and lengths that lie; truncated; flipped."""
    path = folder / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(8)
    writer.add_token_list([b"a", b"b"])
    writer.add_tensor("token_embd.weight", np.zeros((16, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = bytearray(path.read_bytes())
    kind = draw.choice(("tensors", "values", "version", "truncated", "flipped", "lengths"))
    huge = draw.choice((2**63, 2**40, 2**31, 2**64 - 1))
    places_of = {"tensors": 8, "values": 16}
    if kind in places_of:
        struct.pack_into("<Q", content, places_of[kind], huge)
    elif kind == "version":
        struct.pack_into("<I", content, 4, draw.choice((0, 99, 2**31)))
    elif kind == "truncated":
        del content[draw.randrange(len(content)) :]
    elif kind == "lengths":
        struct.pack_into("<Q", content, draw.choice((24, content.index(b"llama") - 8)), huge)
    else:
        for _ in range(6):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return f"GGUF, {kind}", "base", path, True


def _config(draw: Random, folder: Path, places: dict[str, Any]) -> Made:
    """A configuration of a base model with wrong types, huge numbers or depth."""
    where = base_of(folder, places)
    path = where / "config.json"
    values = json.loads(path.read_text())
    name = draw.choice([*sorted(values), "rope_scaling", "head_dim", "rope_theta", "quantization_config", "deep"])
    if name == "deep":
        depth = draw.choice((3000, 100_000))
        path.write_text('{"a":' * depth + "1" + "}" * depth)
        return f"configuration, {depth} levels", "base", where, True
    values[name] = draw.choice(_ODD)
    path.write_text(json.dumps(values))
    return f"configuration, {name} {values[name]!r}", "base", where, False


def _no_model(draw: Random, folder: Path, places: dict[str, Any]) -> Made:
    """A folder, pipe, device or loop where a file belongs."""
    where = base_of(folder, places)
    name = draw.choice(("config.json", "tokenizer.json", "model.safetensors"))
    (where / name).unlink()
    kind = draw.choice(("folder", "fifo", "zero", "loop", "empty", "null"))
    if kind == "folder":
        (where / name).mkdir()
    elif kind == "fifo":
        os.mkfifo(where / name)
    elif kind == "empty":
        (where / name).touch()
    else:
        (where / name).symlink_to({"zero": "/dev/zero", "null": "/dev/null", "loop": name}[kind])
    # A model without tokenizer is one, until something is asked of it.
    return f"{name} is a {kind}", "base", where, True


FORMS = (
    *(_header, _header, _shapes, _shapes, _adapter_config, _adapter_config, _pickle, _foreign, _gguf, _gguf),
    *(tokenizer, tokenizer, template_of, _config, _config, _no_model),
)


def _looked_at(found: Outcome) -> str:
    json.loads(found.said.splitlines()[-1])
    return ""


def _answered(found: Outcome) -> str:
    answer = json.loads(found.said.splitlines()[-1])
    share = sum(item["probability"] for item in answer["choices"])
    return "" if abs(share - 1) < 1e-4 else f"answered {answer}"


def draw_model(draw: Random, folder: Path, places: dict[str, Any], number: int) -> Hostile:
    """Draw a model or an adapter, write it, and have it looked at, asked, chatted with or converted."""
    name, kind, where, refused = FORMS[number % len(FORMS)](draw, folder, places)
    if kind not in ("base", "adapter"):
        words = ("convert", "--from", kind, "--adapter", where, "--llama", places["llama"], "--out", folder / "out")
        return Hostile(f"{name}, convert", "models", command(*words), lambda _: "", refused, "ask")
    way = ("answer", "inspect", "answer", "chat" if kind == "base" else "answer")[number % 5 % 4]
    way = "chat" if "template" in name else way
    right: Callable[[Outcome], str] = _answered
    if way == "inspect":
        return Hostile(f"{name}, inspect", "models", command("inspect", where, "--json"), _looked_at, False, "ask")
    model = ("--adapter", "none", "--llama", where) if kind == "base" else ("--adapter", where)
    if way == "chat":
        act = command("chat", *model, "--max-new-tokens", 2, stdin="Well?\n")
        return Hostile(f"{name}, chat", "models", act, lambda _: "", refused, "ask")
    words = ("answer", *model, "--question", "Which?", "--choices", "one", "two", "--json")
    return Hostile(f"{name}, answer", "models", command(*words), right, refused, "ask")


def well_meant(draw: Random, folder: Path, places: dict[str, Any]) -> list[Hostile]:
    """Return the intact base and adapters, asked."""
    words = ("--question", "Which?", "--choices", "one", "two", "--json")
    adapters = [("--adapter", places[name]) for name in ("letters", "sees")]
    asked = [
        command("answer", *model, *words) for model in (*adapters, ("--adapter", "none", "--llama", places["llama"]))
    ]
    return [Hostile("intact", "models", act, _answered, group="ask") for act in asked]
