"""The state of a run: complete, refused when it does not fit, never half-written."""

import errno
import hashlib
import io

import pytest
import torch

from mm_adapter.core.errors import UserError
from mm_adapter.training.state import Progress, has_whole_state, load_state, save_state, state_files


def saved(folder, step=3, **config):
    progress = Progress(step, torch.arange(4), (50.0, -1.0), 2.5)
    return save_state(folder, progress, {"adapter": {"a": torch.ones(2)}}, config)


def test_what_is_saved_comes_back(tmp_path):
    """Step, order, best result, time and tensors."""
    saved(tmp_path, layers=2)
    found = load_state(tmp_path, {"layers": 2})
    progress, parts = found.progress, found.parts
    assert (progress.step, tuple(progress.best), progress.seconds) == (3, (50.0, -1.0), 2.5)
    assert torch.equal(progress.epoch_start, torch.arange(4))
    assert torch.equal(parts["adapter"]["a"], torch.ones(2))


def test_other_settings_are_refused_by_name(tmp_path):
    """Going on with another rate would be neither of the two runs."""
    saved(tmp_path, layers=2, base_lr=0.1)
    with pytest.raises(UserError, match=r"base_lr: 0.1, now 0.2"):
        load_state(tmp_path, {"layers": 2, "base_lr": 0.2})


def test_no_state(tmp_path):
    """Nothing to go on from is said, with what to do."""
    with pytest.raises(UserError, match="without --resume"):
        load_state(tmp_path, {})


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_damaged_state(tmp_path, keep):
    """A cut file is refused by name."""
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"00000003-.*pt: damaged state"):
        load_state(tmp_path, {})


def test_state_with_code_in_it_is_refused(tmp_path):
    """A state from a stranger cannot run anything: only tensors and plain values are read."""
    content = io.BytesIO()
    torch.save({"progress": print}, content)
    digest = hashlib.sha256(content.getvalue()).hexdigest()[:16]
    saved(tmp_path).with_name(f"00000009-{digest}.pt").write_bytes(content.getvalue())
    state_files(tmp_path)[1].unlink()
    with pytest.raises(UserError, match="damaged state"):
        load_state(tmp_path, {})


def test_full_disk_keeps_the_old_state(tmp_path, monkeypatch):
    """No space: a message with the file's name, and the state before stays whole."""
    path = saved(tmp_path)
    before = path.read_bytes()

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(UserError, match=r"00000004-.*pt: cannot be written \(No space left on device\)"):
        saved(tmp_path, step=4)
    assert path.read_bytes() == before
    assert [*path.parent.iterdir()] == [path]


def test_last_states_are_kept(tmp_path):
    """Two by default: the last may be damaged by what ended the run; the latest comes first."""
    paths = [saved(tmp_path, step) for step in (1, 2, 30)]
    assert state_files(tmp_path) == [paths[2], paths[1]]


def test_later_states_give_way(tmp_path):
    """A run that goes on from an earlier state leaves a damaged later one no place among the last two."""
    good, bad = saved(tmp_path, 10), saved(tmp_path, 20)
    bad.write_bytes(b"cut")
    (bad.parent / f".{bad.name}.xyz").write_bytes(b"half a state of a process that was killed")
    after = saved(tmp_path, 11)
    assert sorted(after.parent.iterdir()) == [good, after]


def test_one_flipped_bit_is_noticed(tmp_path):
    """Weights are not trusted to be what was written: the state before is gone on from, and the damage is told."""
    saved(tmp_path, 1)
    path = saved(tmp_path, 2)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found = load_state(tmp_path, {})
    assert found.progress.step == 1
    assert list(found.damaged) == [str(path)]
    assert has_whole_state(tmp_path)
    state_files(tmp_path)[1].unlink()
    assert not has_whole_state(tmp_path)


def test_how_a_run_is_carried_out_may_change(tmp_path):
    """Another device, or states by time: the same run."""
    saved(tmp_path, device="cpu", sharding="none", layers=2)
    assert load_state(tmp_path, {"device": "cuda", "sharding": "full", "layers": 2}).progress.step == 3


def test_leftovers_of_killed_writers_go(tmp_path):
    """What a killed process left of a file beside it is deleted; everything else stays."""
    from mm_adapter.core.files import delete_leftovers, write_text

    write_text(tmp_path / "run.json", "{}")
    (tmp_path / ".run.json.ab12_x9z").write_text("half")
    (tmp_path / ".run.json.backup").write_text("mine")
    (tmp_path / ".other.json.ab12_x9z").write_text("mine")
    delete_leftovers(tmp_path, ("run.json",))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.json.ab12_x9z", ".run.json.backup", "run.json"]
