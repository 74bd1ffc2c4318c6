"""``mm-adapter leaderboard``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mm_adapter.cli.options import DATA, Count, Several, Value
from mm_adapter.core.errors import UserError

EXAMPLES = (
    "mm-adapter leaderboard --sort IMG --limit 10",
    "mm-adapter leaderboard --runs runs/first/test --data scienceqa",
    "mm-adapter leaderboard add runs/first/test --data scienceqa --method VLM",
)


@Parameter(name="*", group="Showing")
@dataclass(frozen=True, kw_only=True)
class ShowingOptions:
    """Which rows are shown, and how."""

    runs: Annotated[
        tuple[Path, ...],
        Several,
        Parameter(help="Show these runs or predictions too, without keeping them."),
        Value("RUN"),
    ] = ()
    split: Annotated[
        str,
        Parameter(help="Take --runs that do not say for this split; others than test are not ranked."),
        Value("SPLIT"),
    ] = "test"
    sort: Annotated[
        str,
        Parameter(
            help="Sort rows by this: Avg, NAT, SOC, LAN, TXT, IMG, NO, G1-6, G7-12, tuned, date, model.",
        ),
        Value("COLUMN"),
    ] = "Avg"
    filter: Annotated[
        tuple[str, ...],
        Several,
        Parameter(help="Show rows that have these words in model, method or source."),
        Value("WORD"),
    ] = ()
    learning: Annotated[
        str | None, Parameter(help="Show rows of this kind: Fine-tune, Few-shot or Zero-shot."), Value("KIND")
    ] = None
    classes: Annotated[bool, Parameter(help="Show all nine columns of accuracy.")] = False
    limit: Annotated[Count | None, Parameter(help="Show this many rows; by default all.")] = None
    out: Annotated[
        Path | None,
        Parameter(help="Write leaderboard.md, .csv, .json and .png into this folder too."),
        Value("FOLDER"),
    ] = None


@Parameter(name="*", group="Adding")
@dataclass(frozen=True, kw_only=True)
class AddingOptions:
    """What is known of a run that is added."""

    name: Annotated[str | None, Parameter(help="Call the run this; by default as its folder is called.")] = None
    method: Annotated[str, Parameter(help="Say what kind of method it is: VLM, LLM or another.")] = ""
    learning_of_run: Annotated[
        str, Parameter(help="Say how it was learned: Fine-tune, Few-shot or Zero-shot."), Value("KIND")
    ] = "Fine-tune"
    size: Annotated[str, Parameter(help="Say how many parameters the whole model has, as 7B.")] = ""
    tuned: Annotated[
        str | None, Parameter(help="Say how many parameters were trained, as 1.8M; by default what the run says.")
    ] = None
    link: Annotated[str, Parameter(help="Say where it is published.")] = ""
    date: Annotated[str, Parameter(help="Say when, as YYYY-MM-DD; by default today."), Value("DATE")] = ""


def leaderboard(
    *action: Annotated[
        str,
        Parameter(
            help="Verify a run folder of evaluate, or a file of predictions, and keep it; by default show the board.",
            consume_multiple=(0, 2),
        ),
        Value("add RUN"),
    ],
    board: Annotated[Path, Parameter(help="Keep verified runs in this file."), Value("FILE")] = Path(
        "leaderboard.jsonl"
    ),
    data: Annotated[str | None, Parameter(help=f"Hold runs against these questions: {DATA}."), Value("DATA")] = None,
    showing: ShowingOptions = ShowingOptions(),
    adding: AddingOptions = AddingOptions(),
) -> None:
    """Rank published results and your runs, or verify a run and keep it."""
    if not action:
        if data is not None and not showing.runs:
            raise UserError("--data is of --runs and of `add`; leave it out.")
        _show(board, data, showing)
    elif action[0] == "add" and len(action) == 2:
        if data is None:
            raise UserError("leaderboard add needs --data: the questions that the run answered.")
        _add(Path(action[1]), board, data, adding)
    else:
        raise UserError(f"leaderboard {' '.join(action)}: there is `leaderboard` and `leaderboard add RUN`.")


def _add(run: Path, board: Path, data: str, options: AddingOptions) -> None:
    from mm_adapter.eval.leaderboard.ranked_runs import add_run
    from mm_adapter.eval.leaderboard.row import parameters

    facts = {"method": options.method, "learning": options.learning_of_run, "size": options.size}
    tuned = None if options.tuned is None else parameters(options.tuned)
    entry, notes = add_run(run, data, board, options.name, **facts, tuned=tuned, source=options.link, date=options.date)
    if not entry.recorded:
        print("The run does not say which answers it was held against (evaluation.json): they are not verified.")
    for note in notes:
        print(note)
    print(f"{board}: added {entry.model}, {entry.accuracies['Avg']:.2f} % of {len(entry.outcomes)} questions")


def _show(board: Path, data: str | None, options: ShowingOptions) -> None:
    from mm_adapter.eval.leaderboard.ranked_runs import leaderboard as rank
    from mm_adapter.eval.leaderboard.ranked_runs import write_leaderboard
    from mm_adapter.eval.leaderboard.ranked_tables import apart_table, leaderboard_table, selected
    from mm_adapter.eval.official_report import to_text

    found = rank(board, options.runs, data, options.split)
    rows = selected(found.rows, options.sort, options.filter, options.learning)
    if options.out is not None:
        write_leaderboard(options.out, rows, found.apart, found.notes)
    shown = rows if options.limit is None else rows[: options.limit]
    print(to_text(leaderboard_table(shown, options.classes)), end="")
    print(f"\n{len(shown)} of {len(found.rows)} rows; ranks are among all of them, by the average.")
    if found.apart:
        print(f"\n{to_text(apart_table(found.apart))}", end="")
    for note in found.notes:
        print(f"\n{note}")
