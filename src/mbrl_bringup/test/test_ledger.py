# SPDX-License-Identifier: Apache-2.0
"""The regret ledger: sums that must hold, intervals, files and the picture."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from mbrl_bringup import ledger, ledger_trials
from mbrl_bringup.plots import draw_ledger
from mbrl_bringup.run_files import RunError
from mbrl_core.config import load_preset
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import Array
from mbrl_core.tasks import make_task
from mbrl_dynamics.registry import make_model
from mbrl_planner.planner import PlanningError

CONFIG = Path(__file__).resolve().parents[3] / "config"
ROBOT_FILE = CONFIG / "robots" / "pendulum.yaml"
PLANNER = {"kind": "icem", "horizon": 5, "population_size": 20, "iterations": 1, "elites": 4, "particles": 1}


def rows_of(seeds: int, episodes: int = 1, noise: float = 1.0) -> list[dict[str, float]]:
    """Returns with known mean losses of 1 (planner), 5 (model) and 0.5 (latency)."""
    random = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        for episode in range(episodes):
            best = 100.0 + random.normal()
            lost = np.array([1.0, 5.0, 0.5]) + noise * random.normal(size=3)
            stages = best - np.concatenate([[0.0], np.cumsum(lost)])
            rows.append(
                {"seed": seed, "episode": episode, **dict(zip(ledger.STAGES, stages, strict=True)), "random": 0.0}
            )
    return rows


def test_losses_add_up_and_their_intervals_hold_the_truth() -> None:
    rows = rows_of(40, episodes=2)
    found = {loss.cause: loss for loss in ledger.losses(rows)}
    assert found["total"].mean == pytest.approx(sum(found[cause].mean for cause in ledger.LOSSES), abs=1e-9)
    means = ledger.stage_means(rows)
    assert found["total"].mean == pytest.approx(means["unhurried"] - means["real"], abs=1e-9)
    for cause, truth in (("planner", 1.0), ("model", 5.0), ("latency", 0.5)):
        loss = found[cause]
        assert loss.mean == pytest.approx(truth, abs=4.0 / np.sqrt(80))
        # 80 independent draws of deviation 1: the 95 % interval is 2 * 1.96 / sqrt(80) wide.
        assert loss.upper - loss.lower == pytest.approx(0.44, rel=0.3)


def test_episodes_of_a_seed_are_not_taken_for_independent() -> None:
    rows = rows_of(6, noise=1.0)
    often = [{**row, "episode": number} for row in rows for number in range(20)]
    once, repeated = (ledger.losses(each)[0] for each in (rows, often))
    assert (once.lower, once.upper) == pytest.approx((repeated.lower, repeated.upper))


def test_one_episode_has_no_interval_and_two_of_one_seed_have() -> None:
    assert all(np.isnan(loss.lower) for loss in ledger.losses(rows_of(1)))
    assert all(np.isfinite(loss.lower) for loss in ledger.losses(rows_of(1, episodes=2)))
    assert "one sample" in ledger.text(rows_of(1))


def test_text_names_what_was_lost_in_return_and_score() -> None:
    lines = ledger.text(rows_of(4, noise=0.0)).splitlines()
    assert "lost to planner" in lines[1] and "[1.00, 1.00]" in lines[1]
    assert "lost to model" in lines[2] and " 5.00 " in lines[2] and "5.0 % of the score" in lines[2]


def test_files_and_picture(tmp_path: Path) -> None:
    assert ledger.read_ledger(tmp_path) == []
    rows = rows_of(3)
    ledger.write_ledger(tmp_path, rows)
    assert ledger.read_ledger(tmp_path) == rows
    for number, case in enumerate((rows, rows_of(1))):
        path = draw_ledger(case, tmp_path / f"{number}.png")
        assert path.stat().st_size > 10_000
    (tmp_path / ledger.LEDGER).write_text(json.dumps([{"seed": 1}]))
    with pytest.raises(RunError, match=r"ledger.json: KeyError.*--ledger"):
        ledger.read_ledger(tmp_path)


def inputs(state: Array, settings: dict[str, object]) -> ledger_trials.LedgerInputs:
    robot = load_robot(ROBOT_FILE)
    truth = make_model("mujoco", {"robot_file": str(ROBOT_FILE), "threads": 1}, robot.spec, 0)
    episode = ledger_trials.Episode(3, 2, state, 12, make_task("pendulum_upright"))
    return ledger_trials.LedgerInputs(robot, truth, truth, settings, True, [(episode, -20.0)], 5)


def test_stages_are_episodes_from_the_same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_trials, "UNHURRIED", {**PLANNER, "population_size": 60, "iterations": 4})
    notes: list[str] = []
    upright = np.array([np.pi - 0.1, 0.0])
    (row,) = ledger_trials.make_ledger(inputs(upright, {**PLANNER, "propagation": "mean"}), notes.append)
    # With the truth for a model, the model costs nothing; the same streams give the same episode.
    assert row["model"] == row["budget"] <= row["unhurried"] + 0.05
    assert row["real"] == -20.0 and row["random"] < row["unhurried"]
    assert len(notes) == 1 and "seed 3 episode 2" in notes[0]


def test_the_unhurried_planner_has_a_kind_of_its_own_and_looks_as_far() -> None:
    settings = ledger_trials.unhurried_settings(9)
    preset = load_preset(CONFIG / "planner" / "icem.yaml", "planner")
    assert settings["kind"] == "icem" and settings["horizon"] == 9
    assert settings["population_size"] >= 5 * preset["population_size"]


def test_a_model_that_predicts_nonsense_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_trials, "UNHURRIED", PLANNER)
    given = inputs(np.zeros(2), {**PLANNER, "propagation": "mean"})
    linear = make_model("linear", {"members": 1}, given.robot.spec, 0)
    linear.load_arrays({**linear.state_arrays(), "weight": np.full((1, 5, 2), 1e38, dtype=np.float32)})
    with pytest.raises(PlanningError, match="finite"):
        ledger_trials.make_ledger(dataclasses.replace(given, learned=linear), lambda line: None)
