"""Options of ``mm-adapter plan``."""

import argparse
import json
from typing import Any

from mm_adapter.options.config import add_config_options, overrides
from mm_adapter.options.parser import add_command, positive


def add_plan(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""

    def run(options: argparse.Namespace) -> None:
        from mm_adapter.commands.plan import plan
        from mm_adapter.training.config import load_config

        found = plan(
            load_config(options.preset, overrides(options)),
            options.ranks,
            options.questions,
            options.question_tokens,
            options.answer_tokens,
            options.image_features,
            options.utilisation,
            options.memory,
            options.measure,
        )
        print(json.dumps(found.to_json(), ensure_ascii=False) if options.json else found.to_text())

    text = "Say what a training run will take, before anything is loaded: memory, work, time, what fits."
    parser = add_command(
        commands,
        "plan",
        run,
        text,
        "--llama may also be a shape: llama-7b, llama-13b, llama-70b, llama-3-8b; --device is a "
        "kind: cpu (this machine), a100-40g, a100, h100, h200, rtx-3090, rtx-4090, v100, l4, t4.",
    )
    parser.add_argument("--preset", help="preset name or TOML file")
    parser.add_argument("--ranks", type=positive, default=1, help="devices; they share the questions of a step")
    parser.add_argument("--questions", type=positive, help="in an epoch: ScienceQA's 12,726 or Alpaca's 52,002")
    parser.add_argument("--question-tokens", type=positive, help="mean tokens of a question with all of its options")
    parser.add_argument("--answer-tokens", type=positive, help="positions of a question that predict something")
    parser.add_argument("--image-features", type=positive, help="width of the image features, where it is not known")
    parser.add_argument("--utilisation", type=float, help="share of the device's rate that is reached, 0 to 1")
    parser.add_argument("--memory", type=float, help="gigabytes of a device, where not what is published")
    parser.add_argument("--measure", action="store_true", help="run a few steps here and compare, line by line")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    add_config_options(parser)
    parser.add_argument("--batch", dest="batch_size", type=int, metavar="VALUE", help="the same as --batch-size")
