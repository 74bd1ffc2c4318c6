"""Options of ``mm-adapter answer``, and what it prints."""

import argparse
import json
from pathlib import Path
from typing import Any

from mm_adapter.cli.model_options import add_asking_options, add_explaining_options, load_asked_model
from mm_adapter.cli.parser import add_command


def add_answer(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        model = load_asked_model(options)
        asked = (options.question, options.image, options.choices, options.context)
        answer = model.answer(*asked, options.max_new_tokens, options.explain)
        if options.json:
            choices = options.choices or []
            listed = [{"text": t, "probability": p} for t, p in zip(choices, answer.probabilities, strict=True)]
            told = {"explanation": answer.explanation} if answer.explanation else {}
            found = {"answer": answer.text, "choice": answer.choice, "choices": listed, **told}
            print(json.dumps(found, ensure_ascii=False))
            return
        print(answer.text)
        for index, (text, probability) in enumerate(zip(options.choices or [], answer.probabilities, strict=True)):
            print(f"  {'*' if index == answer.choice else ' '} {probability:6.1%}  {text}")
        if answer.explanation:
            print(f"because: {answer.explanation}")

    parser = add_command(commands, "answer", run, "Answer one question, about a picture if one is named.")
    add_asking_options(parser)
    parser.add_argument("--image", type=Path, help="picture")
    parser.add_argument("--question", required=True, help="what is asked")
    parser.add_argument("--choices", nargs="+", help="options; without them the answer is written freely")
    parser.add_argument("--context", default="", help="text that goes with the question")
    add_explaining_options(
        parser, "limit of a free answer (64), or of an explanation (128; before an answer as trained)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
