# SPDX-License-Identifier: Apache-2.0
"""The PETS benchmark's own parts: runs that go on where they were stopped, and the rows that they leave."""

import importlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
OWN = (
    "common",
    "pets",
    "_pets",
    "_pets_rows",
    "_learning",
    "_baselines",
)  # modules whose names mean something in that folder only


@dataclass(frozen=True)
class Modules:
    """Of the benchmark."""

    study: ModuleType
    rows: ModuleType
    main: ModuleType


@pytest.fixture(scope="module")
def bench() -> Iterator[Modules]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield Modules(*(importlib.import_module(name) for name in ("_pets", "_pets_rows", "pets")))
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in OWN:
            sys.modules.pop(name, None)


class Gambler:
    """Acts by chance, about a mean that it fits to its data: an answer depends on all that a file must bring back."""

    machine = "a table"

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.mean, self.plan, self.fits = 0.0, 0.0, 0
        self.data: list[list[float]] = []

    def explore(self) -> list[float]:
        return [float(self.random.uniform(-3.0, 3.0))]

    def act(self, state: list[float]) -> tuple[list[float], float]:
        self.plan = 0.5 * self.plan + self.mean - 0.1 * state[0] + float(self.random.normal())
        return [float(np.clip(self.plan, -3.0, 3.0))], 0.25

    def add(self, state: list[float], action: list[float], next_state: list[float], reward: float, last: bool) -> None:
        self.data.append([*state, *action, *next_state, reward, float(last)])

    def fit(self) -> float:
        self.fits += 1
        self.mean += float(np.mean(self.data)) + float(self.random.normal())
        return 1.5

    def reset(self) -> None:
        self.plan = 0.0

    def save(self, path: Path, progress: Mapping[str, Any]) -> None:
        state = json.dumps([self.random.bit_generator.state, self.mean, self.plan, self.fits])
        np.savez(path, progress=np.array(json.dumps(progress)), state=np.array(state), data=np.array(self.data))

    def restore(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            generator, self.mean, self.plan, self.fits = json.loads(str(file["state"]))
            self.data = file["data"].tolist()
        self.random.bit_generator.state = generator


class StopAfter(threading.Event):
    """Is set when it has been looked at so often."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def play_through(bench: Modules, study: Any, stops: tuple[int, ...]) -> tuple[list[dict[str, Any]], Gambler]:
    """Rows of a seed that is stopped after so many steps each time, and a learner that has the last file."""
    rows: dict[int, dict[str, Any]] = {}
    for stop in (*(StopAfter(looks) for looks in stops), threading.Event()):
        learner = Gambler()
        bench.study.play(learner, study, 3, lambda row: rows.__setitem__(row["trial"], row), stop)
    return [rows[trial] for trial in sorted(rows)], learner


@pytest.mark.parametrize("stops", [(0,), (10,), (31,), (55, 7, 30), (25, 25, 200)])
def test_a_seed_that_was_stopped_goes_on_as_if_it_had_not_been(
    bench: Modules, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    whole, at_once = play_through(bench, bench.study.Study("mbrl-lib", 3, 30, tmp_path / "whole"), ())
    pieces, in_pieces = play_through(bench, bench.study.Study("mbrl-lib", 3, 30, tmp_path / "pieces"), stops)
    assert pieces == whole
    assert in_pieces.data == at_once.data and in_pieces.fits == at_once.fits == 3
    assert [row["trial"] for row in whole] == [0, 1, 2, 3] and len({row["return"] for row in whole}) == 4
    assert [(row["seconds_planning"], row["seconds_fitting"]) for row in whole[:2]] == [(0.0, 0.0), (7.5, 1.5)]
    assert sum(row["return"] for row in whole) == pytest.approx(np.array(at_once.data)[:, 9].sum())
    assert np.flatnonzero(np.array(at_once.data)[:, 10]).tolist() == [29, 59, 89, 119]


def test_a_finished_seed_gets_further_trials_and_tells_the_rows_that_it_has(bench: Modules, tmp_path: Path) -> None:
    whole, _ = play_through(bench, bench.study.Study("mbrl-lib", 3, 30, tmp_path / "whole"), ())
    two, _ = play_through(bench, bench.study.Study("mbrl-lib", 2, 30, tmp_path / "grown"), ())
    again, _ = play_through(bench, bench.study.Study("mbrl-lib", 2, 30, tmp_path / "grown"), ())
    three, _ = play_through(bench, bench.study.Study("mbrl-lib", 3, 30, tmp_path / "grown"), ())
    assert two == again == whole[:3] and three == whole


@pytest.mark.parametrize("change", [{"steps": 31}, {"overrides": ("a=1",)}])
def test_files_of_another_study_are_refused(bench: Modules, tmp_path: Path, change: dict[str, Any]) -> None:
    play_through(bench, bench.study.Study("mbrl-lib", 1, 30, tmp_path), ())
    other = bench.study.Study(**{"side": "mbrl-lib", "trials": 1, "steps": 30, "keep": tmp_path, **change})
    with pytest.raises(bench.rows.StudyError, match=r"seed_3\.npz: is of .*expected .*--keep"):
        play_through(bench, other, ())


def test_a_damaged_file_is_refused(bench: Modules, tmp_path: Path) -> None:
    study = bench.study.Study("mbrl-lib", 1, 30, tmp_path)
    play_through(bench, study, ())
    content = study.file(3).read_bytes()
    study.file(3).write_bytes(content[: len(content) // 2])
    with pytest.raises(bench.rows.StudyError, match=r"seed_3\.npz: cannot be gone on from"):
        play_through(bench, study, ())


def row(side: str, seed: int, trial: int, value: float, steps: int = 200) -> dict[str, Any]:
    numbers = {"seconds_per_plan": 7.0, "seconds_planning": 1400.0, "seconds_fitting": 2.0}
    return {"side": side, "seed": seed, "trial": trial, "return": value, "steps": steps, **numbers, "machine": "a, b"}


def test_rows_replace_those_of_the_same_trial_and_tell_what_is_missing(bench: Modules, tmp_path: Path) -> None:
    path, missing = tmp_path / "results" / "pets.csv", bench.rows.missing
    assert bench.rows.read_rows(path) == [] and missing([], "mbrl-lib", range(2), 1, 200) == [0, 1]
    kept = [row("mbrl-lib", 0, 0, -1.5), row("mbrl-lib", 0, 1, 0.1 + 0.2), row("ours", 1, 1, 170.0)]
    for item in (kept[2], row("mbrl-lib", 0, 1, 4.0), kept[1], kept[0]):
        bench.rows.put_row(path, item)
    assert bench.rows.read_rows(path) == kept
    assert missing(kept, "mbrl-lib", range(2), 1, 200) == [1]
    assert missing(kept, "mbrl-lib", range(1), 2, 200) == [0]
    assert missing(kept, "mbrl-lib", [0], 1, 100) == [0]
    path.write_text(path.read_text("utf-8").replace("170.0", "many"), encoding="utf-8")
    with pytest.raises(bench.rows.StudyError, match=r"pets\.csv line 4: .*'many'"):
        bench.rows.read_rows(path)


def learner_of(failing: int) -> Callable[[int], Any]:
    @contextmanager
    def make(seed: int) -> Iterator[Gambler]:
        if seed == failing:
            raise RuntimeError("no such seed")
        yield Gambler(seed)

    return make


def test_one_seeds_error_ends_all_and_a_folder_is_used_once(bench: Modules, tmp_path: Path) -> None:
    study, rows = bench.study.Study("mbrl-lib", 1, 30, tmp_path), []
    with pytest.raises(RuntimeError, match="no such seed"):
        bench.study.play_all(study, [0, 1, 2], 1, learner_of(1), rows.append)
    assert {item["seed"] for item in rows} == {0}
    with bench.rows.held(tmp_path), pytest.raises(bench.rows.StudyError, match="another benchmark"):
        bench.study.play_all(study, [0], 1, learner_of(-1), rows.append)
    bench.study.play_all(study, [1, 2], 2, learner_of(-1), rows.append)
    assert sorted((item["seed"], item["trial"]) for item in rows) == [(s, t) for s in range(3) for t in range(2)]


def test_rewards_of_another_scale_are_refused(bench: Modules) -> None:

    def paper(actions: np.ndarray, states: np.ndarray) -> np.ndarray:
        tip = np.stack([states[:, 0] - 0.6 * np.sin(states[:, 1]), -0.6 * np.cos(states[:, 1]) - 0.6], axis=-1)
        return np.exp(-(tip**2).sum(-1) / 0.36) - 0.01 * (actions**2).sum(-1)

    assert bench.study.check_rewards(paper) < 1e-12
    with pytest.raises(bench.rows.StudyError, match="rewards"):
        bench.study.check_rewards(lambda actions, states: paper(actions, states) + 1e-3 * actions[:, 0])


def test_bound_of_the_difference(bench: Modules) -> None:
    some = [170.0, 174.0, 176.0, 178.0, 180.0]
    bound = bench.main.lower_bound_of_difference(some, some)
    assert -8.0 < bound < 0.0
    assert bench.main.lower_bound_of_difference([value + 5.0 for value in some], some) == pytest.approx(bound + 5.0)
    assert bench.main.lower_bound_of_difference([100.0] * 5, [98.0] * 5) == pytest.approx(2.0)
    assert np.isnan(bench.main.lower_bound_of_difference(some, [])) and np.isnan(
        bench.main.lower_bound_of_difference([], some)
    )
