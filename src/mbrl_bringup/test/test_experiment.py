# SPDX-License-Identifier: Apache-2.0
"""Experiments without ROS: which trials, which goals, what they are worth, what is written."""

import contextlib
import dataclasses
import io
import json
import math
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ament_index_python.packages import get_package_share_directory
from rich.console import Console

from mbrl_bringup import plots, run_files, summary, view
from mbrl_bringup.animation import ANIMATION, animate
from mbrl_bringup.domains import CANDIDATES, reserved_domain
from mbrl_bringup.experiment import (
    ExperimentConfig,
    LearnerFigures,
    TaskPreset,
    Trial,
    TrialLog,
    load_task,
    make_trials,
)
from mbrl_bringup.results import bar, print_result
from mbrl_core.config import ConfigurationError, load_preset
from mbrl_core.learned_reward import LearnedReward
from mbrl_core.messages import EndReason, StepType, TimeStep
from mbrl_core.reward_network import RewardLayout, encode_reward
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import RobotSpec
from mbrl_core.tasks import Task, make_task
from mbrl_msgs.msg import ExperimentStatus, LearnerStatus

CONFIG = Path(get_package_share_directory("mbrl_bringup")) / "config"
ROBOT = load_robot(CONFIG / "robots" / "pendulum.yaml")
TRIAL = Trial(index=3, controller="planner", learned=True, evaluation=False, waits_for_fit=True)


def pendulum_log(
    angles: list[float], trial: Trial = TRIAL, task: Task | None = None, **changes: dict[int, bool]
) -> TrialLog:
    """A trial that passes through `angles` at rest, with action 0.5."""
    log = TrialLog(trial, ROBOT.spec, task or make_task("pendulum_upright"))
    for step, angle in enumerate(angles):
        last = step == len(angles) - 1
        log.add(
            TimeStep(
                episode=7,
                step=step,
                step_type=StepType.LAST if last else StepType.MID if step else StepType.FIRST,
                end_reason=EndReason.TIME_LIMIT if last else EndReason.NOT_ENDED,
                state=np.array([angle, 0.0]),
                action=np.array([0.5 if step else np.nan]),
                fallback=changes.get("fallback", {}).get(step, False),
                row_age=1,
            ),
            sample_time_ns=step * 50_000_000,
        )
    return log


def test_trials_of_the_algorithms() -> None:
    trials = make_trials(ExperimentConfig(trials=4, random_trials=2, evaluation_trials=2))
    assert [trial.controller for trial in trials] == ["explore", "explore", *["planner"] * 4]
    assert [trial.waits_for_fit for trial in trials] == [False, False, True, True, True, False]
    assert [trial.evaluation for trial in trials] == [False] * 4 + [True] * 2
    once = make_trials(ExperimentConfig(trials=4, refit="once"))
    assert [trial.waits_for_fit for trial in once] == [False, True, False, False]


def test_trials_of_a_policy_and_when_it_is_made() -> None:
    distil = make_trials(ExperimentConfig(trials=3, policy_trials=2, trainer="tracking"))
    assert [trial.controller for trial in distil] == ["explore", "planner", "planner", "policy", "policy"]
    assert [trial.trains for trial in distil] == [False, False, False, True, False]
    assert [trial.waits_for_fit for trial in distil] == [False, True, True, True, False]
    assert [trial.evaluation for trial in distil] == [False, False, False, True, True]
    assert not any(trial.begins_with for trial in distil)
    live = make_trials(ExperimentConfig(trials=3, policy_trials=2, trainer="tracking", handover_step=10))
    assert [trial.first_controller for trial in live] == ["explore", "planner", "planner", "planner", "policy"]
    assert [(trial.controller, trial.handover_step) for trial in live[3:]] == [("policy", 10), ("policy", 0)]
    version_2 = make_trials(
        ExperimentConfig(trials=3, learned_controller="policy", trainer="backprop", train="every_trial")
    )
    assert [trial.controller for trial in version_2] == ["explore", "policy", "policy"]
    assert [trial.trains for trial in version_2] == [False, True, True]
    assert not any(trial.trains for trial in make_trials(ExperimentConfig(trials=3, policy_trials=2)))


def test_presets_of_algorithms_differ_in_what_makes_them() -> None:
    import yaml

    content = {}
    for name in ("mbrl_0_5", "mbrl_0_5_mpc", "mbrl_1_0", "mbrl_1_5"):
        sections = yaml.safe_load((CONFIG / "algorithms" / f"{name}.yaml").read_text(encoding="utf-8"))
        content[name] = {node: section["ros__parameters"] for node, section in sections.items()}
        assert content[name]["/**/experiment"]["algorithm"] == name
    assert [item["/**/planner"]["replan"] for item in content.values()] == [False, True, False, True]
    schedules = [item["/**/learner"]["learner"]["schedule"] for item in content.values()]
    assert schedules == ["once", "once", "episode", "steps"]


def test_goals_fill_the_ring_by_area_and_depend_on_seed_and_trial() -> None:
    preset = TaskPreset(make_task("reacher_tip"), (0.05, 0.2))
    goals = np.array([preset.for_trial(0, trial, 1).goal for trial in range(2000)])
    radii = np.hypot(*goals.T)
    assert radii.min() >= 0.05 and radii.max() <= 0.2
    # By area, the share within radius r is (r^2 - 0.05^2) / (0.2^2 - 0.05^2); five standard deviations.
    share = (0.125**2 - 0.05**2) / (0.2**2 - 0.05**2)
    assert abs((radii < 0.125).mean() - share) < 5.0 * math.sqrt(share * (1.0 - share) / 2000)
    assert np.abs(goals.mean(axis=0)).max() < 5.0 * 0.15 / math.sqrt(2000)
    assert preset.for_trial(1, 0, 1).goal != preset.for_trial(0, 0, 1).goal == tuple(goals[0])


@pytest.mark.parametrize("name", [path.stem for path in sorted((CONFIG / "robots").glob("*.yaml"))])
def test_every_robot_has_its_task(name: str) -> None:
    robot = load_robot(CONFIG / "robots" / f"{name}.yaml")
    config = ExperimentConfig(robot_file=str(CONFIG / "robots" / f"{name}.yaml"))
    preset = load_task(config, robot.task, robot.spec)
    expected = load_preset(CONFIG / "tasks" / f"{robot.task}.yaml", "task")
    assert preset.task.kind == expected["kind"]
    assert (preset.goal_radius is not None) == ("goal_radius" in expected)


def test_a_preset_brings_obstacles() -> None:
    robot = load_robot(CONFIG / "robots" / "reacher.yaml")
    config = ExperimentConfig(task_file=str(CONFIG / "tasks" / "reacher_obstacles.yaml"))
    preset = load_task(config, robot.task, robot.spec)
    assert preset.task.spheres == [(0.12, 0.12, 0.03)]
    # The robot starts outside.
    assert not preset.task.violates(np.zeros(4)) and preset.for_trial(0, 1, 2).obstacles == preset.task.obstacles


def learned_reward(spec: RobotSpec) -> LearnedReward:
    layout = RewardLayout.of(spec, False, "linear", 0)
    arrays = {"shift": np.zeros(layout.input_size), "scale": np.ones(layout.input_size)}
    arrays |= {"head/weight": np.eye(layout.input_size)[None, :, :1], "head/bias": np.zeros((1, 1))}
    return LearnedReward(content=encode_reward(layout, {**arrays, "effort": np.zeros((1, spec.action.size))}))


def test_a_file_of_a_learned_reward_is_the_task_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reward.safetensors"
    config = ExperimentConfig(reward_file=str(path))
    with pytest.raises(FileNotFoundError, match=r"'reward_file'.*No such file.*expected a learned reward"):
        load_task(config, "pendulum_swingup", ROBOT.spec)
    reward = learned_reward(ROBOT.spec)
    reward.save(path)
    task = load_task(config, "pendulum_swingup", ROBOT.spec).task
    assert task.kind == "learned" and task.content == reward.content
    with pytest.raises(ConfigurationError, match=r"beside a task_file, expected one of the two"):
        load_task(dataclasses.replace(config, task_file="any.yaml"), "", ROBOT.spec)
    path.write_bytes(reward.content[:-20])
    with pytest.raises(ConfigurationError, match=r"reward.safetensors: .*not a whole safetensors file"):
        load_task(config, "", ROBOT.spec)
    learned_reward(load_robot(CONFIG / "robots" / "reacher.yaml").spec).save(path)
    with pytest.raises(ConfigurationError, match=r"'reward_file': .*expected 2 state|'reward_file': .*pendulum"):
        load_task(config, "", ROBOT.spec)


def test_a_preset_names_a_learned_reward_beside_it(tmp_path: Path) -> None:
    reward = learned_reward(ROBOT.spec)
    reward.save(tmp_path / "wanted.safetensors")
    path = tmp_path / "task.yaml"
    config = ExperimentConfig(task_file=str(path))
    path.write_text("/**: {ros__parameters: {task: {kind: learned, file: wanted.safetensors}}}", encoding="utf-8")
    task = load_task(config, "", ROBOT.spec).task
    state = np.array([0.3, 0.1])
    expected = reward.reward(state, np.zeros(1), state)
    assert task.reward(state, np.zeros(1), state) == expected != task.reward(2.0 * state, np.zeros(1), 2.0 * state)
    path.write_text("/**: {ros__parameters: {task: {kind: learned, file: other.safetensors}}}", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="other.safetensors', expected a learned reward"):
        load_task(config, "", ROBOT.spec)


def test_wrong_tasks_are_named(tmp_path: Path) -> None:
    config = ExperimentConfig(robot_file=str(CONFIG / "robots" / "pendulum.yaml"))
    with pytest.raises(FileNotFoundError, match=r"unknown task 'sing'.*pendulum_swingup"):
        load_task(config, "sing", ROBOT.spec)
    for text, expected in (
        ("kind: pendulum_upright, gaol: [1.0]", "unknown key 'gaol'"),
        ("kind: pendulum_upright, goal_radius: [0.2, 0.1]", r"goal_radius: got \[0.2, 0.1\]"),
        ("kind: reacher_tip", "robot 'pendulum' has 2 states"),
        ("kind: pendulum_upright, obstacles: [0.1, 0.2]", "obstacles: got 2 numbers, expected a multiple of 3"),
    ):
        path = tmp_path / "task.yaml"
        path.write_text(f"/**: {{ros__parameters: {{task: {{{text}}}}}}}", encoding="utf-8")
        with pytest.raises(ConfigurationError, match=expected):
            load_task(dataclasses.replace(config, task_file=str(path)), "", ROBOT.spec)


def test_return_and_success_of_a_trial() -> None:
    log = pendulum_log([0.0, math.pi, 0.0, math.pi, math.pi + 0.1])
    # -(1 - cos(angle - pi)) - 0.001 * 0.5^2 for each state after the first.
    expected = -(0.0 + 2.0 + 0.0 + (1.0 - math.cos(0.1))) - 4 * 0.001 * 0.25
    assert log.total_reward == pytest.approx(expected, abs=1e-12)
    assert (log.success_steps(), log.success_steps_at_end()) == (3, 2)
    assert pendulum_log([0.0, math.pi, math.pi]).success_steps_at_end() == 2
    # The tip is at (-0.5 sin angle, -0.5 cos angle).
    bar_above = make_task("pendulum_upright", obstacles=(0.0, 0.52, 0.05))
    struck = pendulum_log([math.pi, 0.0, math.pi, math.pi + 0.05, 1.0], task=bar_above)
    assert struck.metrics(LearnerFigures())["violations"] == 2 and struck.total_reward == pytest.approx(
        pendulum_log([math.pi, 0.0, math.pi, math.pi + 0.05, 1.0]).total_reward
    )
    assert struck.arrays()["violation"].tolist() == [False, False, True, True, False]
    row = pendulum_log([0.0] * 21, fallback={4: True, 5: True}).metrics(LearnerFigures(model_version=9))
    assert (row["steps"], row["fallback_ticks"], row["model_version"], row["age_p99"]) == (20, 2, 9, 1.0)
    assert row["control_rate"] == pytest.approx(20.0)
    assert row["end_reason"] == "TIME_LIMIT"


def test_what_plans_promised_is_compared_with_what_came() -> None:
    log = pendulum_log([0.0])
    log.add_plan(0.01, False, (0, 2), -1.0)
    log.add_plan(0.01, False, (1, 2), -1.0)  # promises more than came
    log.add_plan(0.01, False, (2, 2), -1.0)  # reaches beyond the end
    for time_step in pendulum_log([0.0, math.pi, 0.0, math.pi]).steps[1:]:
        log.add(time_step, 0)
    earned = [log.rewards[0] + log.rewards[1], log.rewards[1] + log.rewards[2]]
    gaps = [-1.0 - value for value in earned]
    assert log.metrics(LearnerFigures())["optimism_gap"] == pytest.approx(sum(gaps) / 2.0)
    np.testing.assert_allclose(log.arrays()["optimism_gap"], [*gaps, math.nan, math.nan])
    np.testing.assert_allclose(log.arrays()["predicted_return"], [-1.0, -1.0, math.nan, math.nan])


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """A run of two trials as the experiment writes it."""
    random = dataclasses.replace(TRIAL, index=0, controller="explore", learned=False)
    logs = [pendulum_log([0.0, 0.2, 0.3, 0.1] * 5, random), pendulum_log([0.1, 1.0, 2.0, 3.0] * 5)]
    run_files.write_metrics(tmp_path, [log.metrics(LearnerFigures(prequential_error=0.5)) for log in logs])
    run_files.write_steps(tmp_path, [log.arrays() for log in logs])
    information = {"robot": "pendulum", "algorithm": "mbrl_1_5", "mode": "realtime", "seed": 1, "period": 0.05}
    robot_file = str(CONFIG / "robots" / "pendulum.yaml")
    run_files.write_information(tmp_path, {**information, "robot_file": robot_file})
    return tmp_path


def test_run_files_come_back_bit_by_bit(run_directory: Path) -> None:
    run = run_files.read_run(run_directory)
    log = pendulum_log([0.1, 1.0, 2.0, 3.0] * 5)
    assert run.returns(learned=True) == [log.total_reward]
    assert run.metrics[1]["goal"] == repr(math.pi)
    for name, values in log.arrays().items():
        assert run.steps[name][20:].tobytes() == values.tobytes(), name
    assert not np.load(run_directory / "steps.npz", allow_pickle=False)["state"].dtype.hasobject


def test_missing_and_damaged_runs_are_named(run_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(run_files.RunError, match="holds no finished trial"):
        run_files.read_run(tmp_path / "nowhere")
    content = (run_directory / "steps.npz").read_bytes()
    (run_directory / "steps.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(run_files.RunError, match=str(run_directory)):
        run_files.read_run(run_directory)
    assert plots.main(run_directory) == 1


def test_pictures_are_drawn_again(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plots.main(run_directory) == 0
    paths = [Path(line) for line in capsys.readouterr().out.split()]
    assert sorted(path.name for path in paths) == [plots.LEARNING_CURVE, plots.TRIALS]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_animation_shows_two_different_trials(run_directory: Path) -> None:
    result = animate(run_directory)
    if isinstance(result, str):
        pytest.skip(result)
    from PIL import Image

    with Image.open(run_directory / ANIMATION) as animation:
        assert animation.n_frames == 10
        animation.seek(9)
        frame = np.asarray(animation.convert("RGB"), dtype=float)
    left, right = frame[40:, :320], frame[40:, 320:]
    assert np.abs(left - right).max() > 50.0 and left.std() > 5.0


def test_summary_is_honest_about_a_missing_bag(run_directory: Path) -> None:
    bars = {item["name"]: item for item in summary.run_bars(run_files.read_run(run_directory))}
    assert not bars["transitions_that_differ_between_bag_and_learner"]["ok"]
    assert bars["p99_age_of_executed_rows"]["value"] == 1.0


def test_result_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_result("x", [bar("good", 2.0, at_least=2.0), bar("bad", math.nan, at_most=1.0)]) == 1
    line = capsys.readouterr().out
    result = json.loads(line.removeprefix("RESULT "))
    assert [item["ok"] for item in result["bars"]] == [True, False] and result["ok"] is False
    assert result["machine"]["cores"] >= 1


def test_learning_curve_as_text() -> None:
    lines = view.learning_curve([-10.0, 90.0, 40.0], [False, True, True])
    assert [line.count("█") for line in lines] == [0, view.BAR_WIDTH, view.BAR_WIDTH // 2]
    assert "random" in lines[0] and "learned" in lines[1]


def test_nodes_and_tools_do_not_import_torch() -> None:
    modules = "mbrl_bringup.nodes.experiment_node, mbrl_bringup.demo, mbrl_bringup.batch"
    modules += ", mbrl_policy.nodes.explore_node, mbrl_policy.nodes.recorder_node, mbrl_policy.nodes.teleop_node"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_reserved_domains_differ_and_come_back() -> None:
    with contextlib.ExitStack() as stack:
        domains = [stack.enter_context(reserved_domain()) for _ in range(5)]
        assert len(set(domains)) == 5 and set(domains) <= set(CANDIDATES)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
            taken = next(domain for domain in CANDIDATES if domain not in domains)
            participant.bind(("", 7400 + 250 * taken + 10))
            others = [stack.enter_context(reserved_domain()) for _ in range(15)]
        assert taken not in others and not set(others) & set(domains)
    with contextlib.ExitStack() as stack:
        assert len({stack.enter_context(reserved_domain()) for _ in range(15)}) == 15


def test_live_view_shows_the_figures() -> None:
    status = ExperimentStatus(phase="running", message="trial 2, episode 3", trial=2, trials=5, steps_per_trial=200)
    status.trial_return, status.returns, status.learned = 81.3, [-4.0, 120.5], [False, True]
    state = view.ViewState(status=status, learner=LearnerStatus(model_version=5, prequential_error=0.0034), step=120)
    state.ticks, state.fallback_ticks, state.missed_deadlines = 500, 1, 7
    state.sample_times.extend(0.04 * index for index in range(50))
    state.solve_times.extend([0.02] * 50)
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(view.render(state, "title", ["[robot] a note"]))
    text = " ".join(console.export_text().split())
    for shown in ("2 of 4", "120 / 200", "81.3", "0.0034", "25.00 Hz", "20.0 / 20.0 ms", "1 of 500", "120.5", "a note"):
        assert shown in text, shown
