"""The simulation behind the statistics runs and writes its bars; the whole of it is for people to run."""

import json
from pathlib import Path

import check_statistics
import pytest
from statsmodels.stats.contingency_tables import mcnemar


def test_simulation_writes_its_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["check", "--systems", "60", "--json", str(tmp_path / "bars.json")])
    assert check_statistics.main() == 0
    bars = json.loads((tmp_path / "bars.json").read_text())["bars"]
    assert len(bars) == 19
    assert all(0 <= one["value"] <= 1 for one in bars)


@pytest.mark.parametrize("difference", [0.0, 0.1])
def test_power_against_all_outcomes(difference: float) -> None:
    """The power is the chance of all outcomes that the test rejects, added up one by one."""
    size, apart = 40, 0.3
    first, second = (apart - difference) / 2, (apart + difference) / 2
    from scipy.stats import multinomial

    total = sum(
        multinomial.pmf([b, c, size - b - c], size, [first, second, 1 - apart])
        for b in range(size + 1)
        for c in range(size + 1 - b)
        if b + c and mcnemar([[0, b], [c, 0]], exact=True).pvalue < 0.05
    )
    assert check_statistics.power(size, apart, difference) == pytest.approx(total, abs=1e-5)
