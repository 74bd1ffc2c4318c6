"""The model card of an adapter: metadata that the hub reads, and a page for people, made from what its run recorded."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mm_adapter import __version__
from mm_adapter.core.files import DEFAULT_LLAMA, HUB
from mm_adapter.eval.official_report import markdown_text, to_markdown
from mm_adapter.publishing.figures import Evaluation, Figure
from mm_adapter.publishing.run_facts import RunFacts, public_data

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

_METHODS = {
    "adapter": "adaption prompts, gates{} (LLaMA-Adapter, [arXiv 2303.16199](https://arxiv.org/abs/2303.16199))",
    "adapter-v2": "adaption prompts, gates{}, biases, scales and norms (LLaMA-Adapter V2, "
    "[arXiv 2304.15010](https://arxiv.org/abs/2304.15010))",
    "lora": "low-rank updates of its matrices ([LoRA](https://arxiv.org/abs/2106.09685))",
    "full": "every weight",
}
_HEADS = {
    "class": ["questions", "accuracy", "95 % interval"],
    "responses": ["value", "95 % interval"],
}
_OTHER_HEAD = ["correct", "questions", "accuracy", "95 % interval"]


def pipeline_tag(facts: RunFacts) -> str:
    """Return the hub's name of the task."""
    if facts.is_conversation:
        return "image-text-to-text" if facts.sees else "text-generation"
    return "visual-question-answering" if facts.sees else "question-answering"


def metadata(facts: RunFacts, repo: str, licence: str | None, found: Sequence[Evaluation]) -> "ModelCardData":
    """Return the card's metadata, with every measured figure in ``model-index``.

    Args:
        repo: ``owner/name``.
        licence: identifier of the hub; None for that of the base model, where it is known.
        found: what the adapter was found to be worth.
    """
    from huggingface_hub import ModelCardData

    chosen = licence or facts.base_licence
    datasets = [name.removeprefix(HUB) for name in (facts.data,) if name.startswith(HUB)]
    optional: dict[str, Any] = {"license": chosen} if chosen else {}
    if facts.base_id:
        optional |= {"base_model": facts.base_id, "base_model_relation": "adapter"}
    if datasets:
        optional["datasets"] = datasets
    return ModelCardData(
        model_name=repo.partition("/")[2],
        library_name="mm-adapter",
        pipeline_tag=pipeline_tag(facts),
        tags=["llama-adapter", "mm-adapter"],
        eval_results=[result for evaluation in found for result in _results(facts, evaluation)] or None,
        **optional,
    )


def _results(facts: RunFacts, evaluation: Evaluation) -> list[Any]:
    from huggingface_hub import EvalResult

    data = public_data(evaluation.data) or facts.data
    name = data.removeprefix(HUB) or "unnamed"
    kind = pipeline_tag(facts)
    results = []
    for figure in evaluation.figures:
        if not figure.metric:
            continue
        about = {} if figure.total is None else {"questions": figure.total}
        if figure.interval is not None:
            about |= {"interval_95": [round(figure.interval.low, 4), round(figure.interval.high, 4)]}  # type: ignore[dict-item]
        results.append(
            EvalResult(
                task_type=kind,
                dataset_type=name,
                dataset_name=name,
                dataset_config=_conditions(evaluation) or None,
                dataset_split=evaluation.split or None,
                metric_type=figure.metric,
                metric_name=figure.name if figure.table in ("class", "responses") else f"{figure.table}: {figure.name}",
                metric_value=figure.value,
                metric_args=about or None,
            )
        )
    return results


def _conditions(evaluation: Evaluation) -> str:
    """Return what was not as usual in an evaluation, in words; empty where nothing was."""
    parts = [] if evaluation.images == "real" else [f"pictures {evaluation.images}"]
    parts += ["answers written"] if evaluation.decoding == "generate" else []
    return ", ".join(parts)


def card_text(facts: RunFacts, repo: str, licence: str | None, found: Sequence[Evaluation]) -> str:
    """Return the whole card: metadata and page; arguments as `metadata`."""
    head = metadata(facts, repo, licence, found).to_yaml()
    sections = (_about(facts, repo), _use(facts, repo), _base(facts, licence), _data(facts, found))
    body = "\n".join((*sections, _figures(found), _intended(facts), _reproduce(facts, repo, found)))
    return f"---\n{head}\n---\n\n{body}"


def _about(facts: RunFacts, repo: str) -> str:
    method = str(facts.settings.get("method", "adapter"))
    if facts.description.get("finetune") is not None and method == "adapter":
        method = "full"  # converted, or of before settings were kept
    what = _METHODS.get(method, method).format(" and a visual projection" if facts.sees else "")
    asked = "requests" if facts.is_conversation else "multiple-choice questions"
    return (
        f"# {markdown_text(repo.partition('/')[2])}\n\n"
        f"An adapter that lets a frozen language model answer {asked}{' about pictures' if facts.sees else ''}. "
        f"Trained are {facts.parameters:,} numbers: {what}. It works with its base model alone.\n"
    )


def _loads_alone(facts: RunFacts) -> bool:
    """Tell whether the base model is found by its name wherever the adapter is used."""
    return facts.base == DEFAULT_LLAMA or bool(facts.base_id)


def _use(facts: RunFacts, repo: str) -> str:
    more = "" if _loads_alone(facts) else ', llama="PATH"'
    picture = ', image="photo.jpg"' if facts.sees else ""
    options = "" if facts.is_conversation else ', choices=["cat", "dog", "owl"]'
    question = "Which animal is this?" if facts.sees else "Which animal barks?"
    where = (
        f"\nThe base model is not named by a hub id: give the path of {markdown_text(facts.base)}.\n" if more else ""
    )
    return (
        "## Use\n\n```python\nfrom mm_adapter import MultimodalLlama\n\n"
        f'model = MultimodalLlama.from_pretrained(adapter="{HUB}{repo}"{more})\n'
        f'print(model.answer("{question}"{picture}{options}).text)\n```\n{where}'
    )


def _base(facts: RunFacts, licence: str | None) -> str:
    llama, vision = facts.description["llama"], facts.description.get("vision")
    named = f"[{facts.base_id}](https://huggingface.co/{facts.base_id})" if facts.base_id else markdown_text(facts.base)
    lines = [
        f"- Base model: {named}, licence {facts.base_licence or 'not stated in its files'}.",
        f"- Its fingerprint: `{llama['fingerprint']}` of its weights and of what it computes with them; another model "
        "is refused.",
    ]
    if vision is not None:
        lines += [
            f"- Image tower: `{vision['tower']}`, views {', '.join(vision['views'])}.",
            f"- Its fingerprint: `{vision['fingerprint']}`.",
        ]
    own = licence or (f"{facts.base_licence}, as the base model" if facts.base_licence else "not stated")
    return "## Made of\n\n" + "\n".join([*lines, f"- Licence of this adapter: {own}."]) + "\n"


def _data(facts: RunFacts, found: Sequence[Evaluation]) -> str:
    name = facts.data.removeprefix(HUB)
    linked = f"[{name}](https://huggingface.co/datasets/{name})" if facts.data.startswith(HUB) else markdown_text(name)
    lines = [f"Trained on {linked or 'data that its run does not name'}."]
    if "examples" in facts.result:
        lines.append(f"{facts.result['examples']:,} examples, {facts.result.get('steps', 0):,} steps.")
    if facts.result.get("data_sha256"):
        lines.append(f"The file has SHA-256 `{facts.result['data_sha256']}`; a part of it was held out.")
    best = [
        f"{key.replace('best_val_', '')} {facts.result[key]:.4f}" for key in facts.result if key.startswith("best_val")
    ]
    if best:
        lines.append(f"Best on the held-out examples that chose the weights: {', '.join(best)}.")
    others = {public_data(one.data).removeprefix(HUB) for one in found if one.data} - {name}
    if others:
        lines.append(f"Evaluated on {', '.join(map(markdown_text, sorted(others)))}.")
    return "## Data\n\n" + " ".join(lines) + "\n"


def _figures(found: Sequence[Evaluation]) -> str:
    if not found:
        return "## Figures\n\nNone: this adapter was published without an evaluation.\n"
    return "## Figures\n\n" + "\n".join(map(_evaluation, found))


def _evaluation(evaluation: Evaluation) -> str:
    conditions = _conditions(evaluation)
    name, split = evaluation.folder.resolve().name, evaluation.split or "not recorded"
    title = f"### {markdown_text(name)}: split {markdown_text(split)}"
    parts = [f"{title}{f', {conditions}' if conditions else ''}\n"]
    if evaluation.questions:
        parts.append(
            f"Accuracy in percent with Wilson's interval. {evaluation.unread:,} answers could not be read and "
            f"{evaluation.skipped:,} bad questions were skipped; both count as wrong.\n"
        )
    else:
        parts.append(f"Intervals by a bootstrap over the responses. {evaluation.skipped:,} bad ones were left out.\n")
    for table in dict.fromkeys(figure.table for figure in evaluation.figures):
        rows = [figure for figure in evaluation.figures if figure.table == table]
        head = [table if table != "responses" else "", *_HEADS.get(table, _OTHER_HEAD)]
        text = to_markdown([head, *map(_row, rows)])
        folded = table not in _HEADS
        parts.append(f"<details><summary>By {table}</summary>\n\n{text}\n</details>\n" if folded else text)
    return "\n".join(parts)


def _row(figure: Figure) -> list[str]:
    interval = "-" if figure.interval is None else f"{figure.interval.low:.2f} to {figure.interval.high:.2f}"
    if figure.table == "responses":
        return [figure.name, f"{figure.value:,}" if not figure.metric else f"{figure.value:.4f}", interval]
    counts = [f"{figure.total:,}"] if figure.correct is None else [f"{figure.correct:,}", f"{figure.total:,}"]
    return [figure.name, *counts, f"{figure.value:.2f}", interval]


def _intended(facts: RunFacts) -> str:
    asked = "requests" if facts.is_conversation else "multiple-choice questions"
    how = "with and without pictures" if facts.sees else "in text alone"
    kind = f"{asked} of the kind that it was trained on, {how}"
    return (
        "## Intended use\n\n"
        f"Research and teaching on {kind}; comparison with other ways to adapt a frozen model.\n\n"
        "Not for advice on health, law, money or safety, nor for decisions about people: answers are the likeliest "
        "ones, may be wrong, and carry what the base model and the data hold of bias. Not measured: other languages, "
        f"other {'pictures or ' if facts.sees else ''}subjects than in the tables above.\n"
    )


def _reproduce(facts: RunFacts, repo: str, found: Sequence[Evaluation]) -> str:
    lines = [facts.training_command()] if facts.settings else []
    for evaluation in found:
        data = public_data(evaluation.data) or facts.data or "DATA"
        words = ["mm-adapter", "evaluate", "--adapter", f"{HUB}{repo}", "--data", data, "--out", "OUT"]
        words += [] if _loads_alone(facts) else ["--llama", "PATH"]
        words += ["--split", evaluation.split] if evaluation.split else []
        words += ["--images", evaluation.images] if evaluation.images != "real" else []
        words += ["--decoding", evaluation.decoding] if evaluation.decoding == "generate" else []
        lines.append(shlex.join(words))
    told = "" if facts.settings else "It was not trained by mm-adapter, or its settings are lost.\n\n"
    code = "```sh\n" + "\n".join(lines) + "\n```\n" if lines else ""
    return f"## Reproduce\n\n{told}With mm-adapter {__version__}; all settings are in `config.json`.\n\n{code}"
