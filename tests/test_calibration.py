"""The study calibration: its historical methods, its worlds, and the committed proof."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench.engine import CellContext
from bench.study import Setting, load_results, plan_study, run_study, write_report
from studies.calibration.historical import holm, paired_t, seeds_and_images
from studies.calibration.judging import simulate
from studies.calibration.report import BOUND, upper_bound
from studies.calibration.study import STUDY, Calibration
from studies.calibration.world import DELTA, Condition, sample

COMMITTED = Path(__file__).resolve().parent.parent / "results" / "calibration"


def test_paired_t_is_the_textbook_one():
    scores = np.random.default_rng(0).normal(size=(4, 5))
    expected = [stats.ttest_rel(row, scores[0]).pvalue for row in scores[1:]]
    np.testing.assert_allclose(paired_t(scores), expected)


def test_the_former_method_is_a_t_test_where_images_do_not_matter():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(4, 3))
    np.testing.assert_allclose(seeds_and_images(scores, np.zeros((4, 20))), paired_t(scores), rtol=1e-6)
    assert (seeds_and_images(scores, 9 * rng.normal(size=(4, 20))) > paired_t(scores)).all()


def test_holm_steps_down():
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])


@pytest.mark.parametrize("truth", ["null", "effects", "edge"])
def test_a_world_has_the_effects_that_it_says(truth):
    condition = Condition(18, 3, truth=truth)
    rng = np.random.default_rng(2)
    drawn = [sample(condition, 3, rng) for _ in range(400)]
    seen = np.mean([(one.scores[1:] - one.scores[0]).mean(axis=1) - one.effects for one in drawn])
    assert abs(seen) < 0.15
    sizes = np.abs(np.concatenate([one.effects for one in drawn]))
    expected = {"null": (0, 0), "effects": (0, 5), "edge": (DELTA, DELTA + 0.01)}[truth]
    assert expected[0] <= sizes.min() <= sizes.max() <= expected[1]


def test_tiles_of_one_scene_are_correlated_as_stated():
    rng, products, squares = np.random.default_rng(3), [], []
    for _ in range(200):
        one = sample(Condition(2, 2, scenes=8), 2, rng)
        same = one.scene[:-1] == one.scene[1:]
        products += list((one.tiles[0, :-1] * one.tiles[0, 1:])[same])
        squares += list(one.tiles[0] ** 2)
    assert np.mean(products) / np.mean(squares) == pytest.approx(0.7, abs=0.08)


def test_the_same_condition_gives_the_same_counts(tmp_path):
    context = CellContext(tmp_path, lambda *_: None)
    first, second = (simulate(Condition(6, 2, spread=0.4, looks=2), 12, 1, context) for _ in range(2))
    assert first == second


def test_a_small_calibration_runs_and_reports(tmp_path):
    study = Calibration((Condition(6, 3), Condition(6, 3, truth="effects")), studies=20)
    plan = plan_study(study, Setting(device="cpu", out=tmp_path), "calibration")
    run_study(plan)
    report = write_report(plan.folder, study=study)
    assert report.frame["studies"].tolist() == [20, 20]
    assert {"table.csv", "table.md", "calibration.png"} <= {path.name for path in report.files}


def test_upper_bounds_are_those_of_clopper_and_pearson():
    expected = stats.binomtest(7, 200, alternative="less").proportion_ci(0.95, method="exact").high
    assert upper_bound(7, 200) == pytest.approx(expected)


def test_the_committed_proof_is_of_todays_conditions_and_within_its_bounds():
    """Where a condition, the method or the number of studies changes, the keys differ, and it must be run again."""
    results = load_results(COMMITTED)
    planned = plan_study(STUDY, Setting(device="cpu", out=COMMITTED.parent), "calibration")
    assert results.manifest.cells == planned.manifest.cells
    for condition in STUDY.conditions:
        found = results.records[condition.label].result
        bound = upper_bound(found["methods"]["model"]["false"], found["studies"])
        assert bound <= BOUND or condition.out_of_reach, condition.label
