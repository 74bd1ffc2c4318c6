"""lm-evaluation-harness scores and writes with our model what it does with transformers' own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is an extra: pip install 'mm-adapter[harness]'")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from mm_adapter.adapter import Adapter, AdapterConfig  # noqa: E402
from mm_adapter.core.errors import UserError  # noqa: E402
from mm_adapter.harness.lm_eval_model import LlamaAdapterLM  # noqa: E402
from mm_adapter.model import MultimodalLlama  # noqa: E402

PLANETS = ("Mars", "the planet Venus", "a star", "no planet at all")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a multiple-choice task of twelve questions."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [{"query": f"Question {n}: what is {n} of {n + 3}?\nAnswer:", "gold": n % 4} for n in range(12)]
    (folder / "rows.jsonl").write_text("".join(json.dumps({**row, "choices": PLANETS}) + "\n" for row in rows))
    (folder / "planets.yaml").write_text(
        f"task: planets\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {folder / 'rows.jsonl'}\n"
        "output_type: multiple_choice\ntest_split: test\ndoc_to_text: '{{query}}'\ndoc_to_choice: '{{choices}}'\n"
        "doc_to_target: gold\nmetric_list:\n  - metric: acc\n  - metric: acc_norm\n"
    )
    return folder


@pytest.fixture(scope="module")
def base(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with what transformers wants to know of its tokenizer."""
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("base") / "llama")
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def ours(base: Path) -> LlamaAdapterLM:
    """The tiny base model, read by us."""
    return LlamaAdapterLM(llama=str(base), token_budget=600)


@pytest.fixture(scope="module")
def theirs(base: Path) -> HFLM:
    """The tiny base model, read by transformers."""
    return HFLM(pretrained=str(base), device="cpu", dtype="float32", batch_size=4)


def instances(kind: str, arguments: list[tuple]) -> list[Instance]:
    """Return requests of the harness."""
    return [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]


def test_a_task_gives_the_same_scores(ours: LlamaAdapterLM, theirs: HFLM, tasks: Path) -> None:
    """Accuracies to the digit, the log-likelihood of every option within 1e-4."""
    found = [
        lm_eval.simple_evaluate(
            model=model, tasks=["planets"], task_manager=TaskManager(include_path=str(tasks)), bootstrap_iters=0
        )
        for model in (ours, theirs)
    ]
    accuracies = [{key: value for key, value in one["results"]["planets"].items() if "acc" in key} for one in found]
    assert accuracies[0] == accuracies[1]
    assert accuracies[0]["acc,none"] > 0
    scores = [[answer[0][0] for row in one["samples"]["planets"] for answer in row["resps"]] for one in found]
    assert len(scores[0]) == 48
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_likelihoods_and_whether_they_are_greedy(ours: LlamaAdapterLM, theirs: HFLM) -> None:
    """Contexts empty, repeated, ending in a space and longer than the model; the likeliest token is greedy."""
    best = theirs.generate_until(instances("generate_until", [("The sky", {"until": [], "max_gen_toks": 3})]))[0]
    long = "word " * 400
    pairs = [("", "Hello"), ("The sky", best), ("The sky", " is"), ("The sky ", "is"), ("The sky", " was"), (long, "x")]
    requests = instances("loglikelihood", pairs)
    expected, found = theirs.loglikelihood(requests), ours.loglikelihood(requests)
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_whole_texts(ours: LlamaAdapterLM, theirs: HFLM) -> None:
    """Texts longer than the model are scored in the harness's windows."""
    requests = instances("loglikelihood_rolling", [("A short text.",), ("many words " * 200,)])
    assert ours.loglikelihood_rolling(requests) == pytest.approx(theirs.loglikelihood_rolling(requests), rel=1e-6)


def test_texts_are_written_alike(ours: LlamaAdapterLM, theirs: HFLM) -> None:
    """Greedy texts of unequal prompts, in the order of the requests, up to a stop string."""
    free = {"until": [], "max_gen_toks": 12}
    requests = instances("generate_until", [("The sky is", free), ("A", free), ("One two three four five", free)])
    written = ours.generate_until(requests)
    assert written == theirs.generate_until(requests)
    stop = written[0][3]
    stopped = instances("generate_until", [("The sky is", {"until": [stop], "max_gen_toks": 12})])
    assert ours.generate_until(stopped) == [written[0][: written[0].index(stop)]] == theirs.generate_until(stopped)


def test_what_is_not_known_is_refused(ours: LlamaAdapterLM) -> None:
    """A setting of generation that says something we do not do is named."""
    with pytest.raises(UserError, match="'num_beams' is not known"):
        ours.generate_until(instances("generate_until", [("A", {"num_beams": 4})]))


def test_an_adapter_from_the_command_line(base: Path, tasks: Path, tmp_path: Path) -> None:
    """The harness's own command takes an adapter, whose scores are not those of the base."""
    model = MultimodalLlama.from_pretrained(str(base))
    adapter = Adapter(AdapterConfig(layers=2, prompt_length=3), model.llama.config)
    assert adapter.gates is not None
    torch.nn.init.constant_(adapter.gates, 2.0)
    model.use_adapter(adapter)
    model.save_pretrained(tmp_path / "run")
    program = [sys.executable, "-m", "mm_adapter.harness.lm_eval_model", "run", "--model", "mm-adapter"]
    where = ["--model_args", f"adapter={tmp_path / 'run'}", "--tasks", "planets", "--include_path", str(tasks)]
    out = ["--output_path", str(tmp_path / "out"), "--log_samples"]
    done = subprocess.run([*program, *where, *out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "acc_norm" in done.stdout
    [samples] = (tmp_path / "out").rglob("samples_planets_*.jsonl")
    rows = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda row: row["doc_id"])
    question, options = rows[0]["doc"]["query"], [f" {planet}" for planet in PLANETS]
    logged = [float(answer[0][0]) for answer in rows[0]["resps"]]
    context = model.tokenizer.encode(question)
    for option, score in zip(options, logged, strict=True):
        tokens = torch.tensor([context + model.tokenizer.encode(option)])
        table = model(tokens)[0].log_softmax(dim=-1)
        alone = sum(table[place - 1, tokens[0, place]] for place in range(len(context), tokens.shape[1]))
        assert score == pytest.approx(float(alone), abs=1e-4)
    of_base = LlamaAdapterLM(llama=str(base)).loglikelihood(instances("loglikelihood", [(question, options[0])]))
    assert abs(of_base[0][0] - logged[0]) > 0.1
