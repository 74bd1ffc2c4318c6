"""``mm-adapter answer``."""

import json as json_text
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mm_adapter.cli.asking_options import AskingOptions, ExplainOptions
from mm_adapter.cli.options import Json, ModelOptions, Several, Value

EXAMPLES = (
    "mm-adapter answer --adapter runs/first --image cat.png --question 'What is this?' --choices cat dog owl",
    "mm-adapter answer --adapter none --question 'Why is the sky blue?' --max-new-tokens 40",
)


def answer(
    *,
    model: ModelOptions,
    asking: AskingOptions = AskingOptions(),  # noqa: B008 - frozen
    explaining: ExplainOptions = ExplainOptions(),  # noqa: B008 - frozen
    image: Annotated[Path | None, Parameter(help="Ask about this picture."), Value("FILE")] = None,
    question: Annotated[str, Parameter(help="Ask this question.")],
    choices: Annotated[
        tuple[str, ...] | None,
        Several,
        Parameter(help="Choose among these options; without them the answer is written freely."),
        Value("OPTION"),
    ] = None,
    context: Annotated[str, Parameter(help="Put this text beside the question.")] = "",
    json: Json = False,
) -> None:
    """Answer one question, about a picture if one is named."""
    model.check(image)
    loaded = model.load(asking)
    listed = None if choices is None else list(choices)
    found = loaded.answer(question, image, listed, context, explaining.max_new_tokens, explaining.explain)
    if json:
        pairs = zip(choices or (), found.probabilities, strict=True)
        said = [{"text": text, "probability": probability} for text, probability in pairs]
        told = {"explanation": found.explanation} if found.explanation else {}
        values = {"answer": found.text, "choice": found.choice, "choices": said, **told}
        print(json_text.dumps(values, ensure_ascii=False))
        return
    print(found.text)
    for index, (text, probability) in enumerate(zip(choices or (), found.probabilities, strict=True)):
        print(f"  {'*' if index == found.choice else ' '} {probability:6.1%}  {text}")
    if found.explanation:
        print(f"because: {found.explanation}")
