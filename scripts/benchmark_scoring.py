"""Scoring options against lm-eval-harness on transformers: the same questions, weights and scores.

    python scripts/benchmark_scoring.py [--data DIR] [--questions N] [--rounds N] [--json FILE]

Both score every option of real or generated questions by its log-likelihood, with the default model in float32.
lm-eval runs each option behind its question as a sequence of its own, sixteen at a time, by its ``HFLM``; ours packs
the options behind one pass over their question. They take turns, each in a process of its own. The floor is the time
of the matrix products that ours needs, measured in the same round.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from bars import bar, tell_bars
from benchmark_training import matrix_floor
from reference_llama import reference_llama
from turns import Round, compete, median, ratio, take_turns, worker_settings

from mm_adapter.data.demo import write_demo
from mm_adapter.data.encoding import EncodedQuestion, encode_questions
from mm_adapter.data.readers import read_dataset
from mm_adapter.data.templates import Prompting
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.batching import token_batches
from mm_adapter.scoring.encoded_sets import QuestionSet, score_questions

SPEED, FLOOR, AGREEMENT, TOGETHER, BUDGET = 5.0, 1.35, 1e-4, 16, 4096
Scores = list[list[float]]


def work(settings: dict[str, Any]) -> int:
    """Be one contender in this process."""
    base = load_llama(DEFAULT_LLAMA)
    assert base.tokenizer is not None
    prompting = Prompting("QCM-A", "text", ranking="sum")
    chosen = read_dataset(settings["data"]).split("test")[: settings["questions"]]
    questions = encode_questions(chosen, prompting.make_template(), base.tokenizer, 512)[0]
    if settings["who"] == "ours":
        model = MultimodalLlama(base, prompting=prompting)
        found = lambda: [list(one.scores) for one in score_questions(model, QuestionSet(questions), BUDGET)]  # noqa: E731
    else:
        found = harness(base, questions)

    def make() -> Round:
        start = time.perf_counter()
        scores = found()
        result: Round = {"seconds": time.perf_counter() - start, "questions": len(questions)}
        Path(settings["scores"]).write_text(json.dumps(scores), encoding="utf-8")
        if settings["who"] == "ours":
            lengths = [question.length for question in questions]
            steps = len(token_batches(lengths, BUDGET))
            result["over floor"] = result["seconds"] / matrix_floor(0, sum(lengths), steps, torch.float32)
        return result

    return take_turns(make)


def harness(base: Any, questions: list[EncodedQuestion]) -> Any:
    """Return a function that scores the questions' options by lm-eval's model of transformers."""
    from lm_eval.models.huggingface import HFLM
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base.tokenizer.backend, pad_token="<|endoftext|>")
    model = HFLM(reference_llama(base.model), tokenizer=tokenizer, device="cpu", batch_size=TOGETHER)
    requests = [
        (("", f"{number} {option}"), list(question.prefix), list(ids))
        for number, question in enumerate(questions)
        for option, ids in enumerate(question.options)
    ]

    def found() -> Scores:
        values = iter(model._loglikelihood_tokens(requests, disable_tqdm=True))
        return [[next(values)[0] for _ in question.options] for question in questions]

    return found


def main() -> int:
    """Let both take turns, print the table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", help="dataset; the generated set by default")
    parser.add_argument("--questions", type=int, default=64, help="questions of a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    worker_settings(parser)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker)
    with tempfile.TemporaryDirectory() as temporary:
        data = options.data or f"{temporary}/data"
        if options.data is None:
            write_demo(Path(data), size=300)
        files = {who: Path(temporary) / who for who in ("ours", "lm-eval")}
        shared = {"data": data, "questions": options.questions}
        contenders = {who: {**shared, "who": who, "scores": str(file)} for who, file in files.items()}
        results = compete(__file__, contenders, options.rounds)
        ours, theirs = (json.loads(file.read_text(encoding="utf-8")) for file in files.values())
    difference = max(
        abs(one - other) / max(1.0, abs(other))
        for own, reference in zip(ours, theirs, strict=True)
        for one, other in zip(own, reference, strict=True)
    )
    print(f"{options.questions} questions, float32, {torch.get_num_threads()} threads")
    for who, rounds in results.items():
        print(f"{who:10}{median(rounds, 'questions') / median(rounds, 'seconds'):8.2f} questions/s")
    speed, over = ratio(results["lm-eval"], results["ours"], "seconds"), median(results["ours"], "over floor")
    bars = [
        bar("questions/s over lm-eval's", speed, SPEED, speed >= SPEED),
        bar("time over the floor", over, FLOOR, over <= FLOOR),
        bar("largest relative difference of a score", difference, AGREEMENT, difference <= AGREEMENT),
    ]
    tell_bars(bars, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
