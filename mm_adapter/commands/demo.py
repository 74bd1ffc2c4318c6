"""``mm-adapter demo``: the whole method on a generated set, on one CPU, in minutes."""

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data.demo import write_demo
from data.readers import read_dataset
from eval.report import official_table, to_markdown, to_text
from mm_adapter.commands.evaluate import evaluate, load_model
from mm_adapter.commands.tasks import question_prompting
from mm_adapter.commands.train import train
from mm_adapter.errors import UserError
from mm_adapter.files import write_json, write_text
from mm_adapter.model import MultimodalLlama
from mm_adapter.training.config import load_config


def demo(
    out: Path,
    preset: str = "demo",
    overrides: dict[str, Any] | None = None,
    size: int | None = None,
    quiet: bool = False,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> dict[str, Any]:
    """Generate questions, train a text-only and a multimodal adapter, compare both with the base model.

    Args:
        out: new folder; gets data/, text_only/, multimodal/, report.md and summary.json.
        preset, overrides: settings of both trainings; the text-only one differs in having no image tower.
        size: questions to generate; the generator's default if None.
        quiet: show no progress bars.
        say: receives lines for a person.

    Returns:
        What ``summary.json`` holds: ``base``, ``text_only``, ``multimodal`` (each the official keys) and ``seconds``.

    Raises:
        UserError: ``out`` is not empty, or a model cannot be fetched.
    """
    start = time.perf_counter()
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: not empty; name a new folder by --out, or remove this one.")
    config = load_config(preset, overrides)
    # Loaded before anything is written: a model that cannot be had leaves no half-filled folder.
    prompting = question_prompting(config)
    model = load_model("none", config.llama, config.dtype, config.device, prompting)
    data = out / "data"
    write_demo(data, seed=config.seed, **({} if size is None else {"size": size}))
    dataset = read_dataset(str(data))
    pictured = sum(question.image is not None for question in dataset.questions)
    say(f"generated {len(dataset.questions)} questions, {pictured} with a picture, in {data}")
    store = out / "features"
    runs = {"base": None, "text_only": replace(config, vision="none"), "multimodal": config}
    summary: dict[str, Any] = {}
    for name, settings in runs.items():
        say(f"== {name.replace('_', '-')}")
        folder = out / name
        if settings is not None:
            del model  # one at a time: memory
            train(settings, str(data), folder, features=store, quiet=quiet, say=say)
            model = load_model(str(folder), config.llama, config.dtype, config.device)
        metrics = evaluate(model, str(data), "test", folder / "test", name=name, features=store, quiet=quiet, say=say)
        summary[name] = metrics.official
    table = official_table(summary)
    say("")
    say(to_text(table))
    say(_example(out, data, quiet))
    summary["seconds"] = round(time.perf_counter() - start, 1)
    write_text(out / "report.md", to_markdown(table))
    write_json(out / "summary.json", summary)
    return summary


def _example(out: Path, data: Path, quiet: bool) -> str:
    """Return one test picture's question and answer, and the command that asks it."""
    questions = [question for question in read_dataset(str(data)).split("test") if question.image is not None]
    question = questions[0]
    model = MultimodalLlama.from_pretrained(adapter=out / "multimodal", dtype=torch.float32)
    answer = model.answer(question.question, image=question.image, choices=question.options)
    program = ["mm-adapter", "answer", "--adapter", str(out / "multimodal"), "--image", str(question.image)]
    command = shlex.join([*program, "--question", question.question, "--choices", *question.options])
    right = question.options[question.answer]
    probability = answer.probabilities[answer.choice]
    return f"ask it about a picture:\n  {command}\n  {answer.text} ({probability:.0%}); right is: {right}\n"
