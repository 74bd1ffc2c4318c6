"""The whole method on a generated set, on one CPU, in minutes."""

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_json, write_text
from mm_adapter.data.demo import write_demo
from mm_adapter.data.readers import read_dataset
from mm_adapter.eval.official_report import official_table, to_markdown, to_text
from mm_adapter.model import MultimodalLlama
from mm_adapter.training.config import TrainingConfig, load_config
from mm_adapter.training.evaluation import evaluate
from mm_adapter.training.prepare import question_prompting
from mm_adapter.training.run import train


def demo(
    out: Path,
    config: TrainingConfig | None = None,
    size: int | None = None,
    quiet: bool = False,
    log: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> dict[str, Any]:
    """Generate questions, train a text-only and a multimodal adapter, compare both with the base model.

    Args:
        out: new folder; gets data/, text_only/, multimodal/, report.md and summary.json.
        config: settings of both trainings, by default those of the preset demo; the text-only one differs in having no
            image tower.
        size: questions to generate; the generator's default if None.
        quiet: show no progress bars.
        log: receives lines for a person.

    Returns:
        What ``summary.json`` holds: ``base``, ``text_only``, ``multimodal`` (each the official keys) and ``seconds``.

    Raises:
        UserError: ``out`` is not empty, or a model cannot be fetched.
    """
    start = time.perf_counter()
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: not empty; name a new folder by --out, or remove this one.")
    config = config or load_config("demo")
    # Loaded before anything is written: a model that cannot be had leaves no half-filled folder.
    prompting = question_prompting(config)
    model = MultimodalLlama.from_pretrained(config.llama, dtype=config.dtype, device=config.device, prompting=prompting)
    data = out / "data"
    write_demo(data, seed=config.seed, **({} if size is None else {"size": size}))
    dataset = read_dataset(str(data))
    pictured = sum(question.image is not None for question in dataset.questions)
    log(f"generated {len(dataset.questions)} questions, {pictured} with a picture, in {data}")
    store = out / "features"
    runs = {"base": None, "text_only": replace(config, vision="none"), "multimodal": config}
    summary: dict[str, Any] = {}
    for name, settings in runs.items():
        log(f"== {name.replace('_', '-')}")
        folder = out / name
        if settings is not None:
            del model  # one at a time: memory
            train(settings, str(data), folder, features=store, quiet=quiet, log=log)
            model = MultimodalLlama.from_pretrained(config.llama, folder, dtype=config.dtype, device=config.device)
        metrics = evaluate(model, str(data), "test", folder / "test", name=name, features=store, quiet=quiet, log=log)
        summary[name] = metrics.official
    table = official_table(summary)
    log("")
    log(to_text(table))
    log(_example(out, data, quiet))
    program = shlex.join(["mm-adapter", "serve", "--adapter", str(out / "multimodal"), "--open"])
    log(f"or ask on a page of your own machine, http://127.0.0.1:8000:\n  {program}\n")
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
