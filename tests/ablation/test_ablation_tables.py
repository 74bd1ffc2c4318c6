"""Tables and verdicts are what numpy and scipy say of the runs, published figures beside them."""

import numpy as np
import pytest
from scipy import stats

from mm_adapter.ablation.claims import NOT, SHOWS, UNDECIDED, findings, hold, summary
from mm_adapter.ablation.paper_figures import TABLES
from mm_adapter.ablation.spread import spread
from mm_adapter.ablation.summary import Report, read_report
from mm_adapter.ablation.tables import classes_table, paper_table, runs_table, settings_table


@pytest.fixture
def results(make_result):
    """Two attentions, two depths, three seeds."""
    figures = {
        ("zero-init", 5): (60.0, 61.5, 63.0),
        ("zero-init", 30): (70.0, 71.0, 72.5),
        ("random-init", 5): (40.0, 41.0, 42.5),
        ("random-init", 30): (30.0, 65.0, 80.0),
    }
    return [
        make_result(accuracy, attention=attention, layers=layers, seed=seed)
        for (attention, layers), accuracies in figures.items()
        for seed, accuracy in enumerate(accuracies)
    ]


def published(axis):
    return next(table for table in TABLES if table.axis == axis)


def test_spread_is_numpys():
    """Mean, range and sample standard deviation; one value has none."""
    values = [61.25, 58.5, 64.0]
    found = spread(values)
    assert (found.count, found.low, found.high) == (3, 58.5, 64.0)
    assert (found.mean, found.deviation) == (np.mean(values), np.std(values, ddof=1))
    assert spread([5.0]).deviation is None


def test_seeds_are_one_row(results):
    """Three seeds are a row with their spread; every run is in the spreadsheet."""
    table = settings_table(results)
    assert len(table) == 1 + 4
    sd = f"{np.std([60.0, 61.5, 63.0], ddof=1):.2f}"
    assert table[1][:5] == ["attention = zero-init, layers = 5", "3", "61.50", sd, "60.00-63.00"]
    assert {len(row) for row in table} == {len(table[0])}
    assert len(runs_table(results)) == 1 + 12
    assert classes_table(results)[1][1:3] == ["62.50", "-"]


def test_published_figures_stand_beside_ours(results):
    """In the row of the same value, of zero-init alone in the table of layers; those that we have not, in their own."""
    table = paper_table(published("attention"), results)
    assert [(row[0].split(",")[0], row[-1]) for row in table[1:]] == [
        ("attention = zero-init", "83.85"),
        ("attention = random-init", "40.77"),
    ] * 2
    layers = {row[0]: row[-1] for row in paper_table(published("layers"), results)[1:]}
    assert layers["attention = zero-init, layers = 30"] == "83.85"
    assert layers["attention = random-init, layers = 30"] == "-"
    assert paper_table(published("epochs"), results) is None


def test_table_of_epochs_has_losses_and_rows_of_the_paper(make_result):
    """Our epochs are not the paper's: its rows are there all the same."""
    table = paper_table(published("epochs"), [make_result(60.0, epochs=2.0, seed=0), make_result(61.0, epochs=15.0)])
    assert {len(row) for row in table} == {len(table[0])}
    rows = {row[0]: row for row in table[1:]}
    assert rows["epochs = 15"][-3:] == ["0.022", "0.136", "82.08"]
    assert rows["epochs = 60, the paper"][-3:] == ["0.001", "0.282", "83.94"]
    assert "epochs = 15, the paper" not in rows


def test_verdicts_follow_the_stated_rule():
    """Above the bar, below it, or around it; one pair decides nothing, equal differences have no spread."""
    worse = {0: 40.0, 1: 41.0, 2: 42.0}
    better = {0: 60.0, 1: 62.0, 2: 61.0, 7: 0.0}
    count, mean, low, high, verdict = hold(better, worse)
    interval = stats.ttest_rel([60.0, 62.0, 61.0], [40.0, 41.0, 42.0]).confidence_interval(0.95)
    assert (count, verdict) == (3, SHOWS)
    assert (mean, low, high) == pytest.approx((20.0, *interval))
    assert hold(worse, better)[-1] == NOT
    assert hold({0: 50.0, 1: 60.0}, {0: 55.0, 1: 50.0})[-1] == UNDECIDED
    assert hold({0: 50.0}, {0: 40.0}) == (1, 10.0, None, None, UNDECIDED)
    assert hold({0: 50.0, 1: 51.0}, {0: 40.0, 1: 41.0}) == (2, 10.0, 10.0, 10.0, SHOWS)
    assert hold({0: 50.0}, {1: 40.0}) is None
    equal = {0: 50.0, 1: 52.0}
    assert hold(equal, equal)[-1] == NOT
    assert hold(equal, equal, bar=-1.0)[-1] == SHOWS


def test_claims_are_held_setting_by_setting(results):
    """Attention at each depth; layers of zero-init alone."""
    found = findings(results)
    verdicts = {finding.compared: finding.verdict for finding in found}
    assert verdicts == {
        "attention zero-init over random-init (layers = 5)": SHOWS,
        "attention zero-init over random-init (layers = 30)": UNDECIDED,
        "layers 30 over 5 (attention = zero-init)": SHOWS,
    }
    assert summary(found)[0].endswith("shows in 1, not decided in 1 of 2 comparisons")


def test_report_says_what_is_missing_and_comes_back(results, tmp_path):
    """An unfinished grid has its tables, says that they are not whole, and is read again as it was written."""
    used, whole = {"train": 5, "val": 2, "test": 3}, {"train": 9, "val": 2, "test": 3}
    report = Report("mine", "test", used, whole, 18, tuple(results), {"layers=99": "too many | layers"})
    report.write(tmp_path)
    text = (tmp_path / "ablation.md").read_text()
    assert "12 of 18 runs" in text
    assert "5 runs are missing" in text
    assert "train 5 of 9" in text
    assert "too many \\| layers" in text
    assert "seeded choice" in text
    assert read_report(tmp_path).to_markdown() == text
    assert Report("none", "test", used, whole, 18, (), {}).to_text().startswith("0 of 18")
