"""``mm-adapter plan``."""

import json as json_text
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mm_adapter.cli.options import ConfigFile, Count, Json, Preset
from mm_adapter.cli.settings import Settings
from mm_adapter.core.files import check_place
from mm_adapter.training.sources import resolve

EXAMPLES = (
    "mm-adapter plan --preset paper-7b --device a100",
    "mm-adapter plan --preset paper-7b --device rtx-3090 --quantization int8 --batch 16",
    "mm-adapter plan --preset smollm2 --measure",
)
NOTES = (
    "Here --llama may also be a shape (llama-7b, llama-13b, llama-70b, llama-3-8b, smollm2-135m), and --device a kind: "
    "cpu (this machine), a100-40g, a100, h100, h200, rtx-3090, rtx-4090, v100, l4, t4.",
)


def plan(
    *,
    preset: Preset = None,
    config: ConfigFile = None,
    ranks: Annotated[Count, Parameter(help="Divide the examples of a step among this many devices.")] = 1,
    questions: Annotated[
        Count | None,
        Parameter(help="Count on this many examples in an epoch; by default ScienceQA's 12,726 or Alpaca's 52,002."),
    ] = None,
    question_tokens: Annotated[
        Count | None,
        Parameter(help="Count on this many tokens of a question with all its options; by default what is typical."),
    ] = None,
    answer_tokens: Annotated[
        Count | None,
        Parameter(help="Count on this many positions of a question that predict; by default what is typical."),
    ] = None,
    image_features: Annotated[
        Count | None,
        Parameter(help="Count on image features of this many numbers; by default as the tower's configuration says."),
    ] = None,
    utilisation: Annotated[
        float | None,
        Parameter(
            validator=Number(gt=0, lte=1), help="Count on this share of the device's peak; by default what is usual."
        ),
    ] = None,
    memory: Annotated[
        float | None,
        Parameter(
            validator=Number(gt=0), help="Count on this many gigabytes of a device; by default what is published."
        ),
    ] = None,
    measure: Annotated[bool, Parameter(help="Run a few steps here too, and compare line by line.")] = False,
    json: Json = False,
    settings: Settings = None,
) -> None:
    """Say what a training run will take."""
    found = resolve(preset, config, settings)
    if found.config.llama.count("/") > 1 or found.config.llama.startswith((".", "~", "/")):
        check_place(found.config.llama)  # before torch is imported: a typing error costs no time
    from mm_adapter.planning.planned import plan as make_plan

    answer = make_plan(
        found.config,
        ranks,
        questions,
        question_tokens,
        answer_tokens,
        image_features,
        utilisation,
        memory,
        measure,
    )
    print(json_text.dumps(answer.to_json(), ensure_ascii=False) if json else answer.to_text())
