"""Clients of others against a server on loopback: what they get is what the model computes in this process.

    python scripts/check_clients.py [--llama NAME] [--run RUN --data DIR] [--json FILE]

The official ``openai`` client: chats (with a picture), streams, completions with echo and log-probabilities of the base
and of three adapters. Where ``lm-eval`` is installed (``pip install 'lm-eval[api]'``), its ``local-completions`` on a
local multiple-choice task, against the same harness around the model in process: the same figures, to the digit. Where
``lmms-eval`` is installed (``pip install 'mm-adapter[lmms]'``), its command with our plugin on the test split of
generated questions, pictures and all: the accuracy of ``mm-adapter evaluate``.
"""

import argparse
import base64
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import openai
import torch
from bars import bar, write_bars
from served import ServerProcess, write_adapters
from tiny import write_llama, write_questions

from mm_adapter.data.question import Question
from mm_adapter.inference.answer import free_prompt
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.limits import Limits
from mm_adapter.serving.loading import load_models
from mm_adapter.serving.prompts import Said, chat_prompt

NEAR = 1e-5
PROMPTS = ("Once upon a time", "1 + 1 =", "What do plants take up through their roots?", "é, ü and 中")


class Differences:
    """Counts texts that differ and keeps the largest difference of a log-probability."""

    def __init__(self) -> None:
        self.texts, self.compared, self.largest = 0, 0, 0.0

    def text(self, found: str, told: str) -> None:
        """Compare two texts."""
        self.compared += 1
        self.texts += found != told

    def scores(self, model: MultimodalLlama, ids: list[int], values: list[float], features: Any = None) -> None:
        """Compare log-probabilities of the last tokens of ``ids`` with those of a plain pass."""
        with torch.no_grad():
            table = model(torch.tensor([ids]), features)[0, :-1].log_softmax(-1)
        own = [float(line[token]) for line, token in zip(table, ids[1:], strict=True)][-len(values) :]
        self.largest = max(self.largest, *(abs(one - other) for one, other in zip(own, values, strict=True)))


def check_openai(url: str, models: dict[str, MultimodalLlama], picture: Path) -> list[dict[str, Any]]:
    """Ask by the official client; return the bars."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    names = [model.id for model in client.models.list()]
    found, streams = Differences(), Differences()
    uri = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    for name, model in models.items():
        for number, prompt in enumerate(PROMPTS):
            shown = name == "sees" and number % 2 == 0
            content: Any = [{"type": "text", "text": prompt}]
            content += [{"type": "image_url", "image_url": {"url": uri}}] if shown else []
            asked: dict[str, Any] = {
                "model": name,
                "messages": [{"role": "user", "content": content}],
                "max_tokens": 12,
            }
            features = model.image_features(picture) if shown else None
            ids = chat_prompt(name, model, Limits(), [Said("user", prompt)])
            if name in ("sees", "letters"):
                assert ids == list(free_prompt(model, Question("1", prompt, ("",), answer=-1)))
            chat = client.chat.completions.create(**asked, logprobs=True).choices[0]
            found.text(chat.message.content, model.generate([ids], features, max_new_tokens=12)[0])
            values = [token.logprob for token in chat.logprobs.content]
            found.scores(model, _continued(model, ids, len(values), features), values, features)
            stream = client.chat.completions.create(**asked, stream=True)
            streams.text("".join(chunk.choices[0].delta.content or "" for chunk in stream), chat.message.content)
        asked = {"model": name, "prompt": list(PROMPTS), "max_tokens": 8, "echo": True, "logprobs": 1}
        for prompt, choice in zip(PROMPTS, client.completions.create(**asked).choices, strict=True):
            ids = [*model.tokenizer.begin, *model.tokenizer.encode(prompt)]
            found.text(choice.text, prompt + model.generate([prompt], max_new_tokens=8)[0])
            values = choice.logprobs.token_logprobs[1:]
            found.scores(model, _continued(model, ids, 1 + len(values) - len(ids), None), values)
            stream = client.completions.create(**asked | {"prompt": prompt, "logprobs": None}, stream=True)
            streams.text("".join(chunk.choices[0].text for chunk in stream), choice.text)
    print(f"openai: {found.compared} texts, {found.texts} differ; log-probabilities within {found.largest:.1e}")
    print(f"openai: {streams.compared} streams, {streams.texts} differ from what is said without")
    return [
        bar("openai: models that are not listed", len(set(models) ^ set(names)), 0, set(names) == set(models)),
        bar("openai: texts unlike those in process", found.texts, 0, found.texts == 0),
        bar("openai: largest difference of a log-probability", found.largest, NEAR, found.largest <= NEAR),
        bar("openai: streams unlike what is said without", streams.texts, 0, streams.texts == 0),
    ]


def _continued(model: MultimodalLlama, ids: list[int], count: int, features: Any) -> list[int]:
    """Return ids with the likeliest tokens behind them, each by a plain pass."""
    ids = list(ids)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]), features)[0, -1].argmax()))
    return ids


def check_lm_eval(url: str, llama: str, models: dict[str, MultimodalLlama], folder: Path) -> list[dict[str, Any]]:
    """Run a multiple-choice task by lm-eval over HTTP and in process; return the bars."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    from mm_adapter.harness.lm_eval_model import LlamaAdapterLM

    file = folder / "task.jsonl"
    lines = [
        {"question": f"What is {a} + {b}?", "choices": [str(a + b + more) for more in (0, 1, 2)], "answer": 0}
        for a in range(5)
        for b in range(4)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {
        "task": "sums",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    worst, different = 0.0, 0
    for name, model in models.items():
        over_http = LocalCompletionsAPI(
            base_url=f"{url}/v1/completions", model=name, tokenizer=llama, tokenizer_backend="huggingface",
            num_concurrent=4, max_retries=1, batch_size=4,
        )  # fmt: skip
        both = [
            evaluate(lm, task_dict={"sums": ConfigurableTask(config=dict(config))}, bootstrap_iters=0)
            for lm in (over_http, LlamaAdapterLM(model=model))
        ]
        figures = [{key: value for key, value in one["results"]["sums"].items() if "acc" in key} for one in both]
        different += figures[0] != figures[1]
        samples = [sorted(one["samples"]["sums"], key=lambda sample: sample["doc_id"]) for one in both]
        for served, own in zip(*samples, strict=True):
            for (value, greedy), (told, likeliest) in zip(served["filtered_resps"], own["filtered_resps"], strict=True):
                worst, different = max(worst, abs(value - told)), different + (greedy != likeliest)
        print(f"lm-eval, {name}: {figures[0]['acc,none']:.4f} over HTTP, {figures[1]['acc,none']:.4f} in process")
    return [
        bar("lm-eval: figures unlike those in process", different, 0, different == 0),
        bar("lm-eval: largest difference of an option's log-likelihood", worst, NEAR, worst <= NEAR),
    ]


def check_plugin(folder: Path, run: Path | None, data: Path | None) -> list[dict[str, Any]]:
    """Run lmms-eval where it is installed; return the bars, none where it is not."""
    if importlib.util.find_spec("lmms_eval") is None:
        print("lmms-eval is not installed: its part is left out")
        return []
    from lmms_task import check_lmms_eval, train_small

    if run is None or data is None:
        return check_lmms_eval(folder / "lmms", *train_small(folder / "small"))
    llama = json.loads((run / "adapter_config.json").read_text())["llama"]["name"]
    return check_lmms_eval(folder / "lmms", run, llama, data)


def main() -> int:
    """Compare, print, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--llama", help="base model in Hugging Face's layout; by default a random one of kilobytes")
    parser.add_argument("--run", type=Path, help="adapter for lmms-eval; by default a small one is trained for it")
    parser.add_argument("--data", type=Path, help="questions that it is asked, in ScienceQA's layout")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    if (options.run is None) != (options.data is None):
        parser.error("--run and --data go together: an adapter, and the questions that it is asked.")
    os.environ.setdefault("OPENAI_API_KEY", "none")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        llama = options.llama or str(write_llama(folder / "llama"))
        adapters = write_adapters(folder, load_llama(llama))
        models = load_models(llama, adapters)
        picture = next((write_questions(folder / "data", 60) / "images" / "test").glob("*/image.png"))
        with ServerProcess(llama, adapters, folder / "log") as server:
            bars = check_openai(server.url, models, picture)
            if importlib.util.find_spec("lm_eval") is None:
                print("lm-eval is not installed: its part is left out")
            else:
                bars += check_lm_eval(server.url, llama, models, folder)
        bars += check_plugin(folder, options.run, options.data)
    missed = [found["name"] for found in bars if not found["holds"]]
    print("every bar holds" if not missed else f"missed: {', '.join(map(str, missed))}")
    if options.json is not None:
        write_bars(options.json, bars)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
