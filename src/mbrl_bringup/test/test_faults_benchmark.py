# SPDX-License-Identifier: Apache-2.0
"""What the judge of the bench `faults` takes off for a machine that was held up."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.robot_file import load_robot

ROOT = Path(__file__).resolve().parents[3]


def test_time_held_up_is_that_in_which_any_processor_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    view_module, judge_module = importlib.import_module("_faults_view"), importlib.import_module("_faults_judge")
    robot = load_robot(ROOT / "config" / "robots" / "cartpole.yaml")
    random = np.random.default_rng(0)
    for _ in range(200):
        view = view_module.View(0.01)
        for begin, length in random.integers((0, 1), (100, 60), (random.integers(6), 2)).tolist():
            view.take(["h", begin, begin + length])
        begin, end = sorted(random.integers(0, 150, 2).tolist())
        held = {instant for first, last in view.held_up for instant in range(max(first, begin), min(last, end))}
        assert judge_module.Judge(robot, view, [])._held_up(begin, end) == len(held)
