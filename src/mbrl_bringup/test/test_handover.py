# SPDX-License-Identifier: Apache-2.0
"""What a hand-over came to: criteria and the picture, from a run as it lies on disk."""

from pathlib import Path

import numpy as np
import pytest

from mbrl_bringup import handover
from mbrl_bringup.run_files import Run

STEPS = 5


def make_run(directory: Path, served: list[list[str]], returns: list[float], lost: int = 0) -> Run:
    """A random trial, a planner's, then the policy's, with those who served each step."""
    controllers = ["explore", "planner", *["policy"] * (len(served) - 2)]
    metrics = [
        {
            "trial": index, "controller": name, "learned": int(index > 0), "evaluation": int(name == "policy"),
            "return": value, "lost_time_steps": lost if name == "policy" else 0,
        }
        for index, (name, value) in enumerate(zip(controllers, returns, strict=True))
    ]  # fmt: skip
    count = len(served) * (STEPS + 1)
    steps = {
        "trial": np.repeat(np.arange(len(served)), STEPS + 1),
        "step": np.tile(np.arange(STEPS + 1), len(served)),
        "controller": np.array([name for trial in served for name in ("", *trial)]),
        "state": np.zeros((count, 4)),
        "action": np.zeros((count, 1)),
        "reward": np.zeros(count),
    }
    return Run(directory, {"robot": "cartpole", "period": 0.04}, metrics, steps)


def values(run: Run) -> dict[str, tuple[float, bool]]:
    return {item["name"]: (item["value"], item["ok"]) for item in handover.handover_bars(run)}


def test_criteria_of_a_hand_over_while_the_robot_moves(tmp_path: Path) -> None:
    served = [["explore"] * 5, ["planner"] * 5, ["planner"] * 2 + ["policy"] * 3, ["policy"] * 5]
    run = make_run(tmp_path, served, [-4.0, 178.0, 176.0, 172.0])
    assert handover.has_policy_trials(run)
    bars = values(run)
    assert bars["score_lost_by_handover"] == (pytest.approx(4.0 / 185.0), True)
    assert bars["share_of_ticks_served_by_policy"] == (pytest.approx(0.8), True)
    assert bars["handovers_while_moving"] == (1, True) and bars["missed_ticks"] == (0, True)
    assert handover.draw(run).stat().st_size > 10_000


def test_what_fails_is_told(tmp_path: Path) -> None:
    served = [["explore"] * 5, ["planner"] * 5, ["planner", "safe", "planner", "planner", "planner"]]
    bars = values(make_run(tmp_path, served, [-4.0, 178.0, 150.0], lost=2))
    assert bars["missed_ticks"] == (3, False) and bars["score_lost_by_handover"][1] is False
    assert bars["handovers_while_moving"] == (0, False)
    assert bars["share_of_ticks_served_by_policy"] == (0.0, False)
    assert not handover.has_policy_trials(make_run(tmp_path, served[:2], [-4.0, 178.0]))
