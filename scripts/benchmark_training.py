"""Training speed and memory against PEFT's adaption prompt on transformers, and against the arithmetic floor.

    python scripts/benchmark_training.py [--data DIR] [--questions N] [--layers L] [--json FILE]

Both train the same adapter shape on the same SmolLM2-135M shape (random weights, float32) with the same questions per
step and the same loss; each runs in a process of its own, so that peak memory is its own. Three jobs are timed:

- letter: one sequence a question, loss on the answer's tokens, questions in the order of the dataset. PEFT pads the
  sequences of a step to the longest; ours stores them one after another.
- letter, no padding: the same, questions sorted by length first, so that PEFT has next to nothing to pad.
- text: cross entropy over every option's mean log-likelihood; PEFT runs each option as a sequence of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from bars import bar, write_bars
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.data.demo import write_demo
from mm_adapter.data.encoding import EncodedQuestion, encode_questions
from mm_adapter.data.readers import read_dataset
from mm_adapter.data.templates import Prompting
from mm_adapter.llama import Llama, LlamaConfig
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, open_source
from mm_adapter.scoring.batching import collate
from mm_adapter.scoring.likelihoods import padded_by_question, ranking_loss, score_options

SHAPE = LlamaConfig(49152, 576, 30, 9, 3, 64, 1536, 2048, 1e-5, 100000.0, tied_embeddings=True)
PROMPT_LENGTH, BATCH = 10, 8
JOBS = ("letter", "letter, no padding", "text")


def encoded_questions(data: str, count: int, job: str) -> list[EncodedQuestion]:
    """Return the first ``count`` training questions as the job puts them."""
    tokenizer = open_source(DEFAULT_LLAMA).tokenizer()
    assert tokenizer is not None
    prompting = Prompting("QC-A", "text") if job == "text" else Prompting("QCM-A", "letter")
    questions = read_dataset(data).split("train")[:count]
    encoded = encode_questions(questions, prompting.make_template(), tokenizer, 512)[0]
    return sorted(encoded, key=lambda question: right_only(question).length) if job.endswith("no padding") else encoded


def right_only(question: EncodedQuestion) -> EncodedQuestion:
    """Return the question with its right answer as the only option: a plain sequence."""
    only = replace(question.question, options=(question.question.options[question.question.answer],), answer=0)
    return EncodedQuestion(only, question.prefix, (question.options[question.question.answer],), question.tail)


class Ours:
    """This package: packed options, logits of answer positions, fused attention."""

    def __init__(self, layers: int) -> None:
        torch.manual_seed(0)
        self.llama = Llama(SHAPE).requires_grad_(False)
        torch.nn.init.normal_(self.llama.embedding.weight, std=0.02)
        self.adapter = Adapter(AdapterConfig(layers, PROMPT_LENGTH), SHAPE)
        self.optimizer = torch.optim.AdamW(self.adapter.parameters(), lr=1e-3)

    def step(self, questions: list[EncodedQuestion], job: str) -> int:
        """Train one step; return the tokens that were run."""
        batch = collate(questions if job == "text" else [right_only(question) for question in questions])
        prefixes = list(self.adapter.prefixes(self.llama))
        scores = score_options(self.llama, batch, prefixes, None, self.adapter.first_layer)
        loss = scores.language_loss if job != "text" else ranking_loss(scores.ranking_scores("mean"), batch)
        loss.mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return batch.tokens.numel()


class Peft:
    """PEFT's adaption prompt on transformers, used as their documentation shows."""

    def __init__(self, layers: int) -> None:
        from peft import AdaptionPromptConfig, get_peft_model
        from transformers import LlamaConfig as Config
        from transformers import LlamaForCausalLM

        torch.manual_seed(0)
        config = Config(
            vocab_size=SHAPE.vocab_size,
            hidden_size=SHAPE.hidden_size,
            num_hidden_layers=SHAPE.num_layers,
            num_attention_heads=SHAPE.num_heads,
            num_key_value_heads=SHAPE.num_kv_heads,
            intermediate_size=SHAPE.intermediate_size,
            rms_norm_eps=SHAPE.norm_epsilon,
            tie_word_embeddings=True,
            use_cache=False,
        )
        settings = AdaptionPromptConfig(adapter_layers=layers, adapter_len=PROMPT_LENGTH, task_type="CAUSAL_LM")
        self.model = get_peft_model(LlamaForCausalLM(config), settings)
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-3)

    def step(self, questions: list[EncodedQuestion], job: str) -> int:
        """Train one step; return the tokens that were run, padding included."""
        if job != "text":
            pairs = [(q.prefix, q.options[q.question.answer] + q.tail) for q in questions]
        else:
            pairs = [(q.prefix, option) for q in questions for option in q.options]
        width = max(len(prefix) + len(answer) for prefix, answer in pairs)
        # Ours does not feed the last token, which is only predicted; transformers shifts inside.
        tokens = torch.tensor(
            [[*prefix, *answer] + [0] * (width - len(prefix) - len(answer)) for prefix, answer in pairs]
        )
        labels = torch.tensor(
            [
                [-100] * len(prefix) + [*answer] + [-100] * (width - len(prefix) - len(answer))
                for prefix, answer in pairs
            ]
        )
        attention_mask = (torch.arange(width) < torch.tensor([len(p) + len(a) for p, a in pairs])[:, None]).long()
        if job != "text":
            loss = self.model(input_ids=tokens, attention_mask=attention_mask, labels=labels).loss
        else:
            logits = self.model(input_ids=tokens, attention_mask=attention_mask).logits[:, :-1]
            loss = self._ranking(logits, labels[:, 1:], questions)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return tokens.numel()

    def _ranking(self, logits: Tensor, labels: Tensor, questions: list[EncodedQuestion]) -> Tensor:
        losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction="none")
        scores = -losses.sum(1) / (labels >= 0).sum(1)
        batch = collate(questions, with_tail=False)
        return F.cross_entropy(padded_by_question(scores, batch), batch.answers)


def work(which: str, job: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time one contender in this process."""
    questions = encoded_questions(options.data, options.questions, job)
    steps = [questions[start : start + BATCH] for start in range(0, len(questions), BATCH)]
    contender = Ours(options.layers) if which == "ours" else Peft(options.layers)
    contender.step(steps[0], job)
    start = time.perf_counter()
    tokens = sum(contender.step(step, job) for step in steps)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    floor = matrix_floor(options.layers, tokens, len(steps)) if which == "ours" else 0.0
    return {"seconds": seconds, "tokens": tokens, "questions": len(questions), "peak_mib": peak, "floor": floor}


def matrix_floor(layers: int, tokens: int, steps: int) -> float:
    """Return seconds that the decoder's matrix products alone take here: forward, and gradients where adapted.

    Every product is timed at the mean number of rows of a step.
    """
    rows = max(1, tokens // steps)
    hidden, keys, wide = SHAPE.hidden_size, SHAPE.num_kv_heads * SHAPE.head_dim, SHAPE.intermediate_size
    sizes = [
        (hidden, hidden),
        (hidden, keys),
        (hidden, keys),
        (hidden, hidden),
        (hidden, wide),
        (hidden, wide),
        (wide, hidden),
    ]
    forward = backward = 0.0
    for inputs, outputs in sizes:
        weight, features, gradient = torch.randn(outputs, inputs), torch.randn(rows, inputs), torch.randn(rows, outputs)
        forward += _seconds(lambda f=features, w=weight: F.linear(f, w))
        backward += _seconds(lambda g=gradient, w=weight: g @ w)
    return steps * (SHAPE.num_layers * forward + layers * backward)


def _seconds(run: Any, repeats: int = 10) -> float:
    run()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def main() -> int:
    """Run every contender, print the table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="dataset; the generated set by default")
    parser.add_argument("--questions", type=int, default=64, help="questions that are trained on once")
    parser.add_argument("--layers", type=int, default=30, help="adapted layers, L")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(*options.worker, options)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        if options.data is None:
            options.data = f"{temporary}/data"
            write_demo(Path(options.data), size=300)
        results = {(job, which): _spawn(job, which, options) for job in JOBS for which in ("ours", "peft")}
    bars = []
    print(
        f"L = {options.layers}, K = {PROMPT_LENGTH}, {BATCH} questions a step, float32, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"{'job':20}{'':6}{'questions/s':>12}{'tokens':>9}{'tokens/s':>10}{'peak MiB':>10}{'x floor':>9}")
    for job in JOBS:
        ours, peft = results[job, "ours"], results[job, "peft"]
        for name, result in (("ours", ours), ("PEFT", peft)):
            floor = f"{result['seconds'] / result['floor']:9.2f}" if result["floor"] else ""
            questions, tokens = (result[unit] / result["seconds"] for unit in ("questions", "tokens"))
            rates = f"{questions:12.2f}{result['tokens']:9}{tokens:10.0f}"
            print(f"{job:20}{name:6}{rates}{result['peak_mib']:10.0f}{floor}")
        speed, memory = peft["seconds"] / ours["seconds"], ours["peak_mib"] / peft["peak_mib"]
        print(f"{job:20}speed {speed:.2f} x PEFT, peak memory {memory:.2f} x PEFT")
        bars.append(bar(f"{job}: questions/s over PEFT's", speed, 2.2, speed >= 2.2))
        bars.append(bar(f"{job}: peak memory over PEFT's", memory, 0.5, memory <= 0.5))
    if options.json is not None:
        write_bars(options.json, bars)
    return 0


def _spawn(job: str, which: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", which, job, "--data", options.data]
    command += ["--questions", str(options.questions), "--layers", str(options.layers)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(output.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
