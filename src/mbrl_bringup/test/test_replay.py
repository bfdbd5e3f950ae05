# SPDX-License-Identifier: Apache-2.0
"""A planner's decisions recomputed from their bag: bit for bit as taken, or with something changed."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from recorded_bags import ROBOTS, SMALL, Recording, Script, pendulum, record, small_model

from mbrl_bringup.batch import RunRequest, execute
from mbrl_bringup.cli import replay as command
from mbrl_bringup.replay import Circumstances, recompute, recompute_changed
from mbrl_bringup.replay_changes import Changes, changed
from mbrl_bringup.replay_check import check_episodes
from mbrl_bringup.replay_compare import differences, expected_returns, published
from mbrl_bringup.replay_decision import Decision, find_decision
from mbrl_bringup.replay_recording import ReplayError, read_recording
from mbrl_bringup.replay_report import is_exact
from mbrl_core.checkpoint import save_checkpoint
from mbrl_core.robot_file import load_robot
from mbrl_planner.planner import Planner
from mbrl_policy.bags import recover
from mbrl_ros.conversions import spec_to_message

STEPS = 12
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _as_started_by_mbrl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBRL_ROOT", str(ROOT))


def exact(decision: Decision) -> bool:
    recomputed = recompute(decision)
    compared = differences(decision.plan, published(recomputed.reply, decision.settings))
    assert {"actions", "predicted_return"} <= {item.name for item in compared}
    return is_exact(decision, recomputed)


@pytest.fixture(scope="module")
def lockstep_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the whole graph: one random trial and one learned."""
    directory = tmp_path_factory.mktemp("runs") / "lockstep"
    arguments = {"robot": "pendulum", "mode": "lockstep", "trials": "2", "seed": "5"}
    parameters = {
        "experiment": {"episode_steps": 30},
        "learner": {"dynamics.first_steps": 60, "dynamics.refit_steps": 20, "learner.refit_interval": 10},
        "planner": {"planner.horizon": 8, "planner.population_size": 20, "planner.iterations": 2},
    }
    execute(RunRequest(directory, arguments, parameters, timeout=240.0))
    return directory


@pytest.fixture(scope="module")
def one_episode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of one episode under one model."""
    return record(tmp_path_factory.mktemp("bags") / "bag", Script(steps=STEPS))


def test_decisions_of_a_lockstep_run_come_out_bit_for_bit(lockstep_run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "somewhere_else"
    shutil.copytree(lockstep_run / "bag", alone)  # nothing beside the bag is needed
    recording = read_recording(alone)
    for step in (0, 1, 7, 29):
        decision = find_decision(recording, step=step)
        assert decision.recorded.message.controller == "planner" and decision.doubts == []
        assert decision.plan.predicted_states is not None
        assert exact(decision), step


def test_the_command_tells_and_leaves_the_run_as_it_was(
    lockstep_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted(lockstep_run.rglob("*"))}
    assert command.main([str(lockstep_run)]) == 0
    assert "planner: 30 plans, steps 0 to 29; model versions" in capsys.readouterr().out
    assert command.main([str(lockstep_run), "--step", "11"]) == 0
    assert "recomputed from 12 time steps: bit for bit what was recorded" in capsys.readouterr().out
    picture = tmp_path / "plans.png"
    arguments = ["--planner", "cem", "--set", "planner.horizon=12", "--plot", str(picture)]
    assert command.main([str(lockstep_run), "--step", "11", *arguments]) == 0
    output = capsys.readouterr().out
    assert "planner.kind: icem -> cem" in output and "expected return of 8 steps" in output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert {path: path.stat().st_mtime_ns for path in sorted(lockstep_run.rglob("*"))} == before


def test_every_decision_of_a_run_can_be_checked(
    lockstep_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(lockstep_run), "--all"]) == 0
    assert capsys.readouterr().out == "episode 2, planner: 30 of 30 plans bit for bit\n"
    assert command.main([str(lockstep_run), "--all", "--episode", "1"]) == 1
    assert "in episode 1 there is no plan of a planner" in capsys.readouterr().err
    record(tmp_path / "bag", Script(steps=STEPS, second_model_at=4, episodes=2, lost=(8,)))
    checks = list(check_episodes(read_recording(tmp_path)))
    assert [(check.episode, check.plans) for check in checks] == [(1, STEPS - 1), (2, STEPS - 1)]
    assert all(8 <= check.exact < check.plans and check.largest > 0.0 and check.doubts for check in checks)


def test_settings_of_run_json_serve_where_a_bag_has_none(lockstep_run: Path, tmp_path: Path) -> None:
    record(tmp_path / "bag", Script(steps=4, tell_settings=False))
    with pytest.raises(ReplayError, match=r"'planner', expected a planner whose settings are recorded"):
        find_decision(read_recording(tmp_path), step=2)
    information = json.loads((lockstep_run / "run.json").read_text())
    information["settings"]["planner"].update(SMALL)
    (tmp_path / "run.json").write_text(json.dumps(information))
    decision = find_decision(read_recording(tmp_path), step=2)
    assert decision.doubts == [
        "settings are those of run.json: the bag does not say what they were computed with",
    ]
    assert exact(decision)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(Script(parameters={"delay_steps": 2, "plan_rows": 3}), id="delay"),
        pytest.param(Script(parameters={"replan": False, "open_loop_horizon": 9}), id="one_plan"),
        pytest.param(Script(second_model_at=5), id="two_models"),
        pytest.param(Script(parameters={"planner.kind": "ilqr", "planner.propagation": "mean"}), id="ilqr"),
        pytest.param(Script(explored=(3, 4, 5, 8)), id="others_in_between"),
        pytest.param(Script(too_fast=(3, 4)), id="no_plan_found"),
        pytest.param(Script(too_fast=(3,), explored=(6,)), id="no_plan_found_and_others"),
    ],
)
def test_all_that_a_decision_depends_on_is_taken_into_account(script: Script, tmp_path: Path) -> None:
    recording = read_recording(record(tmp_path / "bag", dataclasses.replace(script, steps=STEPS)))
    for step in (0, 2, 7, 9, 11):
        decision = find_decision(recording, step=step)
        assert decision.doubts == []
        assert exact(decision), step


def test_what_a_planner_has_learned_in_earlier_episodes_counts(tmp_path: Path) -> None:
    learns = {"planner.kind": "poplin_p", "planner.distil_steps": 20, "planner.elites": 6}
    recording = read_recording(record(tmp_path / "bag", Script(learns, steps=5, episodes=2)))
    decision = find_decision(recording, step=3)
    assert exact(decision)
    forgetful = dataclasses.replace(decision, occasions=decision.occasions[-4:])
    assert not exact(forgetful)


def test_other_time_steps_show(one_episode: Path) -> None:
    """Exactness is no matter of course: one bit of the newest state counts, and what the warm start has come from."""
    decision = find_decision(read_recording(one_episode), step=6)
    for index, velocity in ((6, None), (2, 3.0)):
        occasions = list(decision.occasions)
        state = occasions[index].time_step.state.copy()
        state[1] = np.nextafter(np.float32(state[1]), np.float32(np.inf)) if velocity is None else velocity
        time_step = dataclasses.replace(occasions[index].time_step, state=state)
        occasions[index] = dataclasses.replace(occasions[index], time_step=time_step)
        assert not exact(dataclasses.replace(decision, occasions=occasions)), index


def test_where_exactness_is_not_promised_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    realtime = record(tmp_path / "realtime", Script({"mode": "realtime"}, steps=4))
    decision = find_decision(read_recording(realtime), step=2)
    (doubt,) = decision.doubts
    assert doubt.startswith("mode realtime")
    lost = find_decision(read_recording(record(tmp_path / "lost", Script(lost=(0, 3)))), step=6)
    assert lost.doubts == [
        "the bag begins within the episode: what was planned before is not in it",
        "2 time steps that the planner answered are not in the bag",
    ]
    assert not exact(lost)
    assert command.main([str(tmp_path / "lost"), "--step", "6"]) == 0
    output = capsys.readouterr().out
    assert "not bit for bit" in output and "exactness cannot be promised" in output
    assert "pivot recorded  recomputed" in output


def test_other_libraries_or_instructions_are_said(one_episode: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.__version__", "0.1")
    (doubt,) = find_decision(read_recording(one_episode), step=2).doubts
    assert doubt.startswith("computed with other torch: 0.1 here, ")


def test_realtime_plans_get_as_many_iterations_as_they_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded planner stops early at every other step, as a deadline would make it."""
    usual = Planner.plan
    calls = iter(range(1000))

    def hurried(self: Planner, *arguments: object) -> object:
        configured = self.config
        self.config = dataclasses.replace(configured, iterations=1 + next(calls) % 2)
        try:
            return usual(self, *arguments)  # type: ignore[arg-type]
        finally:
            self.config = configured

    with monkeypatch.context() as patch:
        patch.setattr(Planner, "plan", hurried)
        bag = record(tmp_path / "bag", Script({"mode": "realtime"}, steps=8))
    recording = read_recording(bag)
    assert {plan.message.iterations for plan in recording.episodes[0].plans} == {1, 2}
    assert all(exact(find_decision(recording, step=step)) for step in range(8))


def test_another_planner_is_compared_under_both_objectives(one_episode: Path) -> None:
    decision = find_decision(read_recording(one_episode), step=4)
    recomputed = recompute(decision)
    circumstances, words = changed(decision, Changes(values=("task.goal=0.0", "planner.iterations=6")))
    assert words == ["planner.iterations: 2 -> 6", "task.goal: (3.141592653589793,) -> (0.0,)"]
    other = recompute_changed(decision, circumstances, recomputed)
    plans = (decision.plan, other.reply.plan)
    recorded, alternative = expected_returns(recomputed.objective, recomputed.state, plans, 3)
    under_recorded, under_changed = expected_returns(other.objective, recomputed.state, plans, 3)
    # Each is the better one for what it was made for: upright, or hanging.
    assert recorded > alternative and under_changed > under_recorded
    assert recorded == pytest.approx(decision.plan.predicted_return, rel=0.05)


def test_nothing_changed_changes_nothing(one_episode: Path) -> None:
    decision = find_decision(read_recording(one_episode), step=5)
    recomputed = recompute(decision)
    again = recompute_changed(decision, Circumstances(decision.settings), recomputed)
    assert is_exact(decision, again)
    circumstances, words = changed(decision, Changes(planner="", values=("seed=7",)))
    assert words == ["nothing: what is given is what was"]
    assert is_exact(decision, recompute_changed(decision, circumstances, recomputed))


def test_another_model_from_a_checkpoint_or_of_another_version(tmp_path: Path) -> None:
    bag = record(tmp_path / "bag", Script(second_model_at=6))
    decision = find_decision(read_recording(bag), step=4)
    recomputed = recompute(decision)
    second = small_model(pendulum(), 101)
    path = tmp_path / "learner_00000002.safetensors"
    content = {f"published/{name}": value for name, value in second.state_arrays().items()}
    information = {"interface_hash": second.spec.interface_hash, "model": second.configuration_mapping()}
    save_checkpoint(path, content, information)
    plans = []
    for model in (str(path), "2"):
        circumstances, (words,) = changed(decision, Changes(model=model))
        assert words.startswith("model: version 1 -> ")
        plans.append(recompute_changed(decision, circumstances, recomputed).reply.plan)
    assert plans[0].actions.tobytes() == plans[1].actions.tobytes()
    assert plans[0].predicted_return != decision.plan.predicted_return
    save_checkpoint(path, content, {**information, "interface_hash": "0123456789abcdef"})
    with pytest.raises(ReplayError, match=r"of a robot with interface '0123456789ab', expected .* of 'pendulum'"):
        changed(decision, Changes(model=str(path)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--step", "99"], "step 99 of episode 1 is not recorded; there are 13 steps, 0 to 12"),
        (["--step", "12"], "step 12 of episode 1 has no plan that answers it; answered by: nobody"),
        (["--step", "2", "--episode", "4"], "there is no episode 4; recorded: 1"),
        (["--step", "3"], "step 3 of episode 1 was answered by 'explore', expected a planner"),
        (["--step", "2", "--controller", "policy"], "has no plan by 'policy' that answers it; answered by: planner"),
        (["--step", "2", "--model", "nowhere.safetensors"], "nowhere.safetensors: No such file or directory"),
        (["--step", "2", "--model", "7"], "model version 7 is not recorded; there are: 1"),
        (["--step", "2", "--model", __file__], "not a whole safetensors file"),
        (["--step", "2", "--planner", "dreamer"], "--planner dreamer: expected a preset file, or one of the presets"),
        (["--step", "2", "--task", "reacher_target"], "task 'reacher_tip': robot 'pendulum' has 2 states"),
        (["--step", "2", "--task", "nothing"], "--task nothing: expected a preset file, or one of the presets"),
        (["--step", "2", "--set", "planner.depth=3"], "unknown parameter 'depth' for IcemConfig"),
        (["--step", "2", "--set", "planner.horizon=-3"], "parameter 'horizon': got -3, expected at least 1"),
        (["--step", "2", "--set", "planner.particles=7"], "5 members, expected a divisor of parameter"),
        (["--step", "2", "--set", "task.weights.angle=much"], "--set task.weights.angle=much: expected numbers"),
        (["--step", "2", "--set", "task.weights.colour=1"], "unknown weight 'colour'"),
        (["--step", "2", "--set", "speed=1"], "--set speed=1: expected NAME=VALUE with NAME one of planner.NAME"),
        (["--step", "2", "--plot", "/nowhere/plans.png"], "/nowhere/plans.png: No such file or directory"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    arguments: list[str], said: str, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = tmp_path_factory.getbasetemp() / "refusals"
    if not bag.exists():
        record(bag, Script(explored=(3,)))
    assert command.main([str(bag), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_a_damaged_bag_is_refused_by_name(one_episode: Path, tmp_path: Path) -> None:
    """Wherever bytes are lost or changed: refused, or whole as far as it was asked about; never anything else."""
    content = (one_episode / "bag.mcap").read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for number in range(30):
        bag = tmp_path / f"{number}" / "bag"
        shutil.copytree(one_episode, bag)
        place = int(random.integers(len(content)))
        changed_bytes = bytes(byte ^ 0xFF for byte in content[place : place + 40])
        rest = changed_bytes + content[place + 40 :] if number % 2 else b""
        (bag / "bag.mcap").write_bytes(content[:place] + rest)
        try:
            find_decision(read_recording(bag), step=1)
        except ReplayError as error:
            refused += str(bag) in str(error)
        else:
            assert number % 2, "a file that was cut short was read as if it were whole"
            refused += 1
    assert refused == 30


def test_an_unfinished_bag_names_its_cure(one_episode: Path, tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    shutil.copytree(one_episode, bag)
    (bag / "metadata.yaml").unlink()
    with pytest.raises(ReplayError, match="the recorder was killed"):
        read_recording(bag)
    recover(bag)
    assert exact(find_decision(read_recording(bag), step=3))


def test_bags_of_two_robots_and_folders_without_any_are_refused(one_episode: Path, tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"expected a run's folder with a recording in bag/, or a bag"):
        read_recording(tmp_path)
    shutil.copytree(one_episode, tmp_path / "bag")
    (tmp_path / "run.json").write_text('{"robot": "cartpole", "interface_hash": "fedcba98765432"}')
    with pytest.raises(ReplayError, match=r"is of robot 'pendulum'.*run.json beside it is of robot 'cartpole'"):
        read_recording(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ReplayError, match=r"run.json: expected a JSON object"):
        read_recording(tmp_path)
    other = load_robot(ROBOTS / "cartpole.yaml").spec
    (tmp_path / "two").mkdir()
    with Recording(tmp_path / "two" / "bag", Script(steps=2)) as recording:
        recording.play(1, lambda seed: small_model(recording.robot, seed))
        recording.write("robot_spec", spec_to_message(other, Time()))
    with pytest.raises(ReplayError, match=r"two robots: 'pendulum', interface .* and 'cartpole', interface"):
        read_recording(tmp_path / "two")
