"""The state of a run: complete, refused when it does not fit, never half-written."""

import errno

import pytest
import torch

from mm_adapter.errors import UserError
from mm_adapter.training.state import STATE_FILE, Progress, load_state, save_state


def saved(folder, **config):
    save_state(folder, Progress(3, torch.arange(4), (50.0, -1.0), 2.5), {"adapter": {"a": torch.ones(2)}}, config)
    return folder / STATE_FILE


def test_what_is_saved_comes_back(tmp_path):
    """Step, order, best result, time and tensors."""
    saved(tmp_path, layers=2)
    progress, parts = load_state(tmp_path, {"layers": 2})
    assert (progress.step, tuple(progress.best), progress.seconds) == (3, (50.0, -1.0), 2.5)
    assert torch.equal(progress.epoch_start, torch.arange(4))
    assert torch.equal(parts["adapter"]["a"], torch.ones(2))


def test_other_settings_are_refused_by_name(tmp_path):
    """Going on with another rate would be neither of the two runs."""
    saved(tmp_path, layers=2, base_rate=0.1)
    with pytest.raises(UserError, match=r"base_rate: 0.1, now 0.2"):
        load_state(tmp_path, {"layers": 2, "base_rate": 0.2})


def test_no_state(tmp_path):
    """Nothing to go on from is said, with what to do."""
    with pytest.raises(UserError, match="without --resume"):
        load_state(tmp_path, {})


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_damaged_state(tmp_path, keep):
    """A cut file is refused by name."""
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"last_state.pt: damaged state"):
        load_state(tmp_path, {})


def test_state_with_code_in_it_is_refused(tmp_path):
    """A state from a stranger cannot run anything: only tensors and plain values are read."""
    torch.save({"progress": print}, tmp_path / STATE_FILE)
    with pytest.raises(UserError, match="damaged state"):
        load_state(tmp_path, {})


def test_full_disk_keeps_the_old_state(tmp_path, monkeypatch):
    """No space: a message with the file's name, and the state before stays whole."""
    path = saved(tmp_path)
    before = path.read_bytes()

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(UserError, match=r"last_state.pt: cannot be written \(No space left on device\)"):
        saved(tmp_path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [STATE_FILE]
