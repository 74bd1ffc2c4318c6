"""``mm-adapter score``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mm_adapter.cli.options import ReadingOptions, Several, TableGroup, Value
from mm_adapter.core.errors import UserError

EXAMPLES = (
    "mm-adapter score --predictions runs/first/test/predictions.jsonl --data scienceqa",
    "mm-adapter score --predictions ours.jsonl llava/answers.jsonl --data scienceqa --by subject 'grade*context'",
)


def score(
    *,
    predictions: Annotated[
        tuple[Path, ...],
        Several,
        Parameter(
            help="Score these files: our JSON lines, an official result file, LLaVA's answers.jsonl, lmms-eval's "
            "samples or VLMEvalKit's table; several are compared.",
        ),
        Value("FILE"),
    ],
    by: Annotated[
        tuple[str, ...],
        Several,
        Parameter(
            help="Make tables by these too: subject, context, grade-band, topic, category, skill, grade, options, "
            "context-length, lecture; crossed: 'subject*context'.",
        ),
        Value("CLASS"),
    ] = (),
    reading: ReadingOptions,
    table: TableGroup = TableGroup(),  # noqa: B008 - frozen
    json: Annotated[Path | None, Parameter(help="Write everything to this file."), Value("FILE")] = None,
    out: Annotated[
        Path | None,
        Parameter(help="Write scores.md, scores.csv and scores.json into this folder."),
        Value("FOLDER"),
    ] = None,
    vlmevalkit: Annotated[
        Path | None,
        Parameter(help="Write the predictions as VLMEvalKit's table to this file, .tsv or .xlsx; one system alone."),
        Value("FILE"),
    ] = None,
    quiet: Annotated[bool, Parameter(help="Accepted for uniformity; score shows no progress.")] = False,
) -> None:
    """Score predictions of any system, with intervals; compare several."""
    from mm_adapter.core.files import write_json
    from mm_adapter.data.readers import read_dataset
    from mm_adapter.eval.scores import read_systems, to_screen, to_values, write_scores
    from mm_adapter.eval.scores import score as score_systems

    dataset = read_dataset(reading.data, skip_bad=reading.skip_bad, options=table.options())
    split = reading.split or dataset.default_split
    systems = read_systems(predictions, dataset, split, reading.reading(), reading.name)
    scores = score_systems(systems, by, reading.interval, reading.seed, reading.reference)
    if vlmevalkit is not None:
        from mm_adapter.eval.layouts.vlmevalkit_table import write_vlmevalkit

        if len(systems) > 1:
            raise UserError("--vlmevalkit writes the predictions of one system; name one file of predictions.")
        write_vlmevalkit(vlmevalkit, systems[0].predictions, dataset.split(split))
    if json is not None:
        write_json(json, to_values(scores))
    if out is not None:
        write_scores(out, scores)
    print(to_screen(scores))
