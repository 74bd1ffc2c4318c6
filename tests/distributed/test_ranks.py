"""Several processes compute what one computes, and end together."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mm_adapter.core.errors import UserError
from mm_adapter.distributed import SINGLE_PROCESS, DistributedContext, init_distributed

ROOT = Path(__file__).resolve().parent.parent.parent
CHECKS = ROOT / "scripts"


def torchrun(ranks: int, program: Sequence[object]) -> subprocess.CompletedProcess[str]:
    """Run a program under torchrun, one thread a rank."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    # Said, for torchrun itself says it of several ranks alone, and sums of two threads are rounded differently.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *map(str, program)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=ROOT,
        env=environment,
    )


@pytest.fixture
def commands() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs ``mm-adapter`` under torchrun with some ranks."""

    def run(ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
        return torchrun(ranks, ["-m", "mm_adapter", *arguments])

    return run


def test_alone_there_is_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torchrun there is one rank, and what it hands in is what it gets back."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with init_distributed() as ranks:
        assert ranks == SINGLE_PROCESS
        assert ranks.is_main
        assert ranks.gather("x") == ["x"]
        assert ranks.sum([1.5, 2]) == [1.5, 2]
        assert ranks.broadcast([3]) == [3]
        assert ranks.shard([1, 2, 3]) == [1, 2, 3]
        assert ranks.device("cuda") == "cuda"


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another launcher that says how many there are, and not which this is, would hang: it is told at once."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="start the processes with torchrun"), init_distributed():
        pass


def test_shares() -> None:
    """Every item has one owner; shared evenly, some of the first have two, and no rank fewer than another."""
    items = list(range(10))
    shares = [DistributedContext(rank, 4).shard(items) for rank in range(4)]
    assert sorted(item for share in shares for item in share) == items
    even = [DistributedContext(rank, 4).shard(items, even=True) for rank in range(4)]
    assert {len(share) for share in even} == {3}
    assert {item for share in even for item in share} == set(items)
    assert [len(DistributedContext(rank, 4).shard([7], even=True)) for rank in range(4)] == [1, 1, 1, 1]
    assert DistributedContext(1, 4, 1, 4).device("cuda") == "cuda:1"


@pytest.mark.parametrize(
    ("kinds", "settings"),
    [(["data", "full"], ["accumulated"]), (["data"], ["text only", "tiles", "query"])],
    ids=["shared", "no pictures, and prompts of their own"],
)
def test_two_ranks_train_as_one(tmp_path: Path, kinds: list[str], settings: list[str]) -> None:
    """DDP and FSDP2, accumulated or not, in all kinds of image prompts: losses and adapters of one process."""
    command = [
        sys.executable,
        CHECKS / "check_ranks.py",
        "--ranks",
        "2",
        "--kinds",
        *kinds,
        "--settings",
        *settings,
        "--forked",
        "--json",
        tmp_path / "bars.json",
    ]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    bars = json.loads((tmp_path / "bars.json").read_text())["bars"]
    assert len(bars) == len(kinds) * len(settings)
    assert all(bar["holds"] and bar["value"] <= bar["bar"] == 1e-5 for bar in bars)


def test_predictions_and_features_do_not_depend_on_ranks(
    commands: Callable[..., subprocess.CompletedProcess[str]], picture_adapter: Path, demo_folder: Path, tmp_path: Path
) -> None:
    """Three ranks write the predictions, tables and features of one, byte for byte, and print them once."""
    outputs = []
    for ranks in (1, 3):
        store, out = tmp_path / f"features-{ranks}", tmp_path / f"out-{ranks}"
        where = ["--data", demo_folder, "--features", store, "--out", out, "--quiet"]
        done = commands(ranks, "evaluate", "--adapter", picture_adapter, *where)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("IMG") == 1
        names = ("predictions.jsonl", "official.json", "metrics.json", "metrics.csv")
        features = load_file(next(store.iterdir()))
        outputs.append(([(out / name).read_bytes() for name in names], features))
    (files, features), (files_of_three, features_of_three) = outputs
    assert files == files_of_three
    assert features.keys() == features_of_three.keys()
    assert all(torch.equal(feature, features_of_three[key]) for key, feature in features.items())


@pytest.fixture(scope="module")
def picture_adapter(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, demo_folder: Path) -> Path:
    """A run of one step with pictures."""
    from mm_adapter.cli import main

    out = tmp_path_factory.mktemp("picture") / "run"
    where = ["--llama", tiny_folder, "--data", demo_folder, "--out", out, "--features", out.parent / "features"]
    sizes = ["--layers", "2", "--prompt-length", "3", "--epochs", "0.2", "--warmup-epochs", "0", "--quiet"]
    assert main([*map(str, ["train", *where, *sizes, "--max-length", "700"])]) == 0
    return out


def test_error_of_one_rank_ends_all_with_its_message(
    commands: Callable[..., subprocess.CompletedProcess[str]], tiny_folder: Path, demo_folder: Path, tmp_path: Path
) -> None:
    """What one rank alone meets ends the others too: no hang, and its reason is on the screen."""
    program = tmp_path / "failing.py"
    program.write_text(
        "import sys\n"
        "from mm_adapter.core.errors import UserError\n"
        "from mm_adapter.cli import main\n"
        "from mm_adapter.training.task import QuestionTask\n"
        "import os\n"
        "real = QuestionTask.losses\n"
        "def losses(self, indices, cache):\n"
        "    if os.environ['RANK'] == '1': raise UserError('this rank cannot')\n"
        "    return real(self, indices, cache)\n"
        "QuestionTask.losses = losses\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    where = ["--llama", tiny_folder, "--data", demo_folder, "--out", tmp_path / "run", "--vision", "none", "--quiet"]
    sizes = ["--layers", "2", "--prompt-length", "3", "--max-length", "700", "--batch-size", "8"]
    done = torchrun(2, [program, "train", *where, *sizes])
    assert done.returncode != 0
    assert "mm-adapter, rank 1: this rank cannot" in done.stderr
    assert not (tmp_path / "run" / "run.json").exists()


def test_signal_to_one_rank_ends_all_after_the_same_step(tiny_folder: Path, demo_folder: Path, tmp_path: Path) -> None:
    """SIGTERM meets the second rank alone, in mid-step: both end after the same step, with the state, and exit 0."""
    program = tmp_path / "signalled.py"
    program.write_text(
        "import os, signal, sys\n"
        "from mm_adapter.cli import main\n"
        "from mm_adapter.training.task import QuestionTask\n"
        "real, calls = QuestionTask.losses, []\n"
        "def losses(self, indices, cache):\n"
        "    calls.append(1)\n"
        "    if os.environ['RANK'] == '1' and len(calls) == 3: signal.raise_signal(signal.SIGTERM)\n"
        "    return real(self, indices, cache)\n"
        "QuestionTask.losses = losses\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    where = ["--llama", tiny_folder, "--data", demo_folder, "--out", tmp_path / "run", "--vision", "none", "--quiet"]
    sizes = ["--layers", "2", "--prompt-length", "3", "--max-length", "700", "--batch-size", "8", "--epochs", "3"]
    done = torchrun(2, [program, "train", *where, *sizes])
    assert done.returncode == 0, done.stderr
    assert "stopped at step 4; the state is kept" in done.stderr
    assert [path.name.split("-")[0] for path in (tmp_path / "run" / "states").iterdir()] == ["00000004"]
    assert not (tmp_path / "run" / "run.json").exists()


def test_sharded_layers_are_in_parts(tiny_folder: Path, tmp_path: Path) -> None:
    """With FSDP2 a rank holds half of every layer, all of the embedding, and the base is one mapping of one file."""
    program = tmp_path / "parts.py"
    program.write_text(
        "import json, sys, torch\n"
        "from mm_adapter.distributed import init_distributed\n"
        "from mm_adapter.pretrained import load_shared\n"
        "from mm_adapter.distributed.sharding import shard\n"
        "with init_distributed() as ranks:\n"
        "    base = load_shared(sys.argv[1], torch.bfloat16, ranks)\n"
        "    mapped = ranks.gather('weights.safetensors' in open('/proc/self/maps').read())\n"
        "    whole = sum(p.numel() for p in base.model.layers.parameters())\n"
        "    prints = ranks.gather(base.fingerprint)\n"
        "    shard(base.model, 'cpu')\n"
        "    part = sum(p.to_local().numel() for p in base.model.layers.parameters())\n"
        "    rows = base.model.embedding.weight.shape[0]\n"
        "    if ranks.is_main: print(json.dumps([whole, part, rows, prints, mapped]))\n"
        "    del base\n"
    )
    done = torchrun(2, [program, tiny_folder])
    assert done.returncode == 0, done.stderr
    whole, part, rows, prints, mapped = json.loads(done.stdout.splitlines()[-1])
    assert part == whole / 2
    assert rows == 258
    assert prints[0] == prints[1]
    assert len(prints[0]) == 64
    if Path("/proc/self/maps").exists():
        assert mapped == [True, True]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted as Linux lists them")
@pytest.mark.parametrize("end", ["regular", "SIGTERM"])
def test_no_thread_of_the_group_is_left_at_the_end(
    end: str, tiny_folder: Path, demo_folder: Path, tmp_path: Path
) -> None:
    """With FSDP2 too they are joined before the interpreter ends, for one still at work then aborts the process."""
    program = tmp_path / "threads.py"
    program.write_text(
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from mm_adapter.cli import main\n"
        "from mm_adapter.training.task import QuestionTask\n"
        "def threads(): return sum('gloo' in name.read_text() for name in Path('/proc/self/task').glob('*/comm'))\n"
        "real, seen = QuestionTask.losses, []\n"
        "def losses(self, indices, cache):\n"
        "    seen.append(threads())\n"
        f"    if {end!r} == 'SIGTERM' and len(seen) == 3: signal.raise_signal(signal.SIGTERM)\n"
        "    return real(self, indices, cache)\n"
        "QuestionTask.losses = losses\n"
        "status = main(sys.argv[1:])\n"
        "print(f'threads {status} {min(seen) > 0} {threads()}')\n"
    )
    where = ["--llama", tiny_folder, "--data", demo_folder, "--out", tmp_path / "run", "--vision", "none", "--quiet"]
    sizes = ["--layers", "2", "--prompt-length", "3", "--max-length", "700", "--batch-size", "8", "--epochs", "1"]
    done = torchrun(2, [program, "train", *where, *sizes, "--sharding", "full"])
    assert done.returncode == 0, done.stderr
    assert ("stopped at step" in done.stderr) == (end == "SIGTERM")
    assert done.stdout.count("threads 0 True 0") == 2, done.stdout


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sharding", "full"], "start several with torchrun"),
        (["--sharding", "some"], "sharding 'some' is not known"),
    ],
)
def test_sharding_that_cannot_be_is_refused(
    tiny_folder: Path,
    demo_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    """One process has nothing to share."""
    from mm_adapter.cli import main

    where = ["--llama", tiny_folder, "--data", demo_folder, "--out", tmp_path / "run", "--vision", "none"]
    assert main([*map(str, ["train", *where, *more])]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_killed_runs_end_in_the_same_bytes(tmp_path: Path) -> None:
    """SIGKILL, SIGTERM, in mid-save, a rank of two: ``--resume auto`` always ends in the undisturbed run's adapter."""
    sizes = ["--kills", "4", "--epochs", "12", "--ranks", "2"]
    command = [sys.executable, CHECKS / "check_resume.py", *sizes, "--json", tmp_path / "bars.json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    bars = json.loads((tmp_path / "bars.json").read_text())["bars"]
    assert sum(bar["value"] for bar in bars) == 4


@pytest.mark.slow
def test_a_node_that_comes_back(tmp_path: Path) -> None:
    """A node of two disappears and comes back: the run comes to its end, where it would have."""
    command = [sys.executable, CHECKS / "check_nodes.py", "--ranks", "1", "--json", tmp_path / "bars.json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(json.loads((tmp_path / "bars.json").read_text())["bars"]) == 3
