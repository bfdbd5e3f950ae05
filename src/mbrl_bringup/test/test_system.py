# SPDX-License-Identifier: Apache-2.0
"""The whole system over real processes: learning, equal bytes from equal seeds, the bag, and the end by a signal."""

import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mbrl_bringup import ledger, ledger_trials, plots, summary
from mbrl_bringup.batch import RunFailed, RunRequest, execute
from mbrl_bringup.learned_from import read_learned_transitions
from mbrl_bringup.run_files import Run
from mbrl_policy import bags

STEPS = 40
# Small enough for a test: the point is the graph, not the skill.
SMALL = {
    "experiment": {"episode_steps": STEPS},
    "learner": {"dynamics.first_steps": 60, "dynamics.refit_steps": 20, "learner.refit_interval": 20},
    "planner": {"planner.horizon": 8, "planner.population_size": 20, "planner.iterations": 2},
}


def request(directory: Path, algorithm: str = "mbrl_1_5", trials: int = 3, seed: int = 5) -> RunRequest:
    arguments = {
        "robot": "pendulum",
        "mode": "lockstep",
        "trials": str(trials),
        "seed": str(seed),
        "algorithm": algorithm,
    }
    return RunRequest(directory, arguments, SMALL, timeout=120.0)


def known_dynamics(directory: Path) -> RunRequest:
    """Plans through the simulation itself; the last trial is an evaluation."""
    small = request(directory, trials=2)
    parameters = {**SMALL, "experiment": {**SMALL["experiment"], "evaluation_trials": 1}}
    del parameters["learner"]  # the parameters there are those of an ensemble
    return RunRequest(directory, {**small.arguments, "dynamics": "mujoco"}, parameters, timeout=120.0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Five short runs, two at a time."""
    folder = tmp_path_factory.mktemp("runs")
    requests = {
        "first": request(folder / "first"),
        "again": request(folder / "again"),
        "other_seed": request(folder / "other_seed", trials=1, seed=6),
        "mbrl_0_5": request(folder / "mbrl_0_5", "mbrl_0_5"),
        "known": known_dynamics(folder / "known"),
    }
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(requests, pool.map(execute, requests.values()), strict=True))


def test_a_run_learns_and_leaves_its_files(runs: dict[str, Run]) -> None:
    run = runs["first"]
    assert [row["controller"] for row in run.metrics] == ["explore", "planner", "planner"]
    assert [row["steps"] for row in run.metrics] == [STEPS] * 3
    assert run.metrics[0]["model_version"] == 0 and run.metrics[2]["model_version"] >= 1
    assert all(row["fallback_ticks"] == 0 and row["lost_time_steps"] == 0 for row in run.metrics)
    # Plans and time steps come on two topics: at either end of an episode one may overtake the other.
    assert all(row["plans"] >= STEPS - 2 for row in run.metrics)


def test_equal_seeds_give_equal_bytes(runs: dict[str, Run]) -> None:
    for name in ("episode", "step", "state", "action", "reward"):
        assert runs["first"].steps[name].tobytes() == runs["again"].steps[name].tobytes(), name
    other = runs["other_seed"].steps["state"]
    assert other.tobytes() != runs["first"].steps["state"][: len(other)].tobytes()


def test_the_bag_holds_what_was_learned_from(runs: dict[str, Run]) -> None:
    for run in (runs["first"], runs["mbrl_0_5"]):
        recorded = bags.read_transitions(run.directory / "bag")
        assert len(recorded) == 3 * STEPS
        bags.check_same_transitions(recorded, read_learned_transitions(run.directory))
        assert summary.differing_transitions(run.directory)[0] == 0.0


def test_the_bag_holds_all_that_made_the_run(runs: dict[str, Run]) -> None:
    path = runs["first"].directory / "bag"
    wanted = (
        "task",
        "robot_spec",
        "model",
        "controller_state",
        "learner_status",
        "experiment_status",
        "plan",
        "commands",
    )
    counts = dict.fromkeys(wanted, 0)
    final = ""
    for topic, message in bags.read_messages(path, wanted):
        counts[topic] += 1
        final = message.phase if topic == "experiment_status" else final
    assert all(counts.values()), counts
    assert counts["plan"] >= 3 * STEPS and counts["commands"] >= 3 * STEPS
    assert final == "finished"


def test_known_dynamics_predict_what_the_simulation_does(runs: dict[str, Run]) -> None:
    run = runs["known"]
    assert [row["evaluation"] for row in run.metrics] == [0, 0, 1]
    assert run.metrics[1]["model_version"] >= 1
    # The mean normalised squared error is that of single precision.
    assert run.metrics[-1]["prequential_error"] < 1e-10
    assert np.isfinite(run.metrics[-1]["optimism_gap"])


def test_the_ledger_repeats_a_lockstep_trial_offline(runs: dict[str, Run]) -> None:
    settings = runs["known"].information["settings"]
    assert settings["planner"]["planner.horizon"] == SMALL["planner"]["planner.horizon"]
    assert settings["learner"]["dynamics.kind"] == "mujoco"
    inputs = ledger_trials.read_inputs(runs["known"])
    ((episode, realised),) = inputs.episodes
    again = ledger_trials.planned_return(inputs.robot, episode, inputs.settings, inputs.learned)
    assert again == pytest.approx(realised, abs=1e-9)
    # Without evaluation trials it is about the last two learned ones.
    episodes = [episode.number for episode, _ in ledger_trials.read_inputs(runs["first"]).episodes]
    assert episodes == [row["episode"] for row in runs["first"].metrics[1:]]


def test_a_report_gains_the_ledger_when_asked(runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"population_size": 20, "iterations": 1, "elites": 5}
    monkeypatch.setattr(ledger_trials, "UNHURRIED", {**ledger_trials.UNHURRIED, **small})
    directory = runs["known"].directory
    assert plots.main(directory, with_ledger=True) == 0
    (row,) = ledger.read_ledger(directory)
    assert row["real"] == runs["known"].metrics[-1]["return"]
    assert row["model"] == pytest.approx(row["budget"], abs=1e-9)  # the model is the truth
    assert (directory / plots.LEDGER).is_file()
    assert plots.LEDGER in [path.name for path in plots.draw(runs["known"])]


def test_mbrl_0_5_fits_once_and_follows_one_plan(runs: dict[str, Run]) -> None:
    run = runs["mbrl_0_5"]
    assert [row["model_version"] for row in run.metrics] == [0, 1, 1]
    # Lockstep publishes what remains of the episode's one plan at every step: row by row the same actions.
    plans = [m for _, m in bags.read_messages(run.directory / "bag", ("plan",)) if m.controller == "planner"]
    one = [message for message in plans if message.episode == 2]
    whole = one[0].actions
    assert len(whole) >= STEPS
    for message in one:
        assert message.actions[0] == whole[message.start_step]


def test_an_unknown_parameter_ends_the_run_with_its_name(tmp_path: Path) -> None:
    wrong = RunRequest(tmp_path / "run", {"robot": "pendulum"}, {"experiment": {"speed": 3}}, timeout=60.0)
    with pytest.raises(RunFailed):
        execute(wrong)
    assert "unknown parameter 'speed' of node 'experiment'" in (tmp_path / "run" / "launch.log").read_text()


def processes_with(token: str) -> list[int]:
    """Processes whose environment holds a token."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and token.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_and_the_bag_is_whole(number: signal.Signals, tmp_path: Path) -> None:
    token = uuid.uuid4().hex
    environment = {**os.environ, "MBRL_TEST_TOKEN": token}
    environment.pop("ROS_DOMAIN_ID", None)
    command = [
        sys.executable,
        "-m",
        "mbrl_bringup.demo",
        "pendulum",
        "--headless",
        "--run-directory",
        str(tmp_path / "run"),
    ]
    demo = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("first motion"):
            break
    else:
        pytest.fail("the robot never moved")
    time.sleep(1.0)
    assert len(processes_with(token)) >= 8
    demo.send_signal(number)
    sent = time.monotonic()
    output, _ = demo.communicate(timeout=10.0)
    assert time.monotonic() - sent < 3.0, output
    assert demo.returncode == 128 + number
    assert processes_with(token) == []
    assert len(bags.read_transitions(tmp_path / "run" / "bag")) >= 5
