# SPDX-License-Identifier: Apache-2.0
"""A person is disturbed while demonstrating: what is executed, what is learned, and what is never disturbed."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
from test_swap import Graph, graph  # noqa: F401 - graph is a fixture
from test_teleop_node import DEAD_MAN, START, SUCCESS, Stick, finish_bag, start_desk

from mbrl_core.robot_file import load_robot
from mbrl_core.specs import RobotSpec
from mbrl_core.tasks import make_task
from mbrl_msgs.msg import Plan, TimeStep
from mbrl_policy.bags import read_messages, read_time_steps
from mbrl_policy.imitation.labels import Labels
from mbrl_policy.intentions import Intentions
from mbrl_policy.teleop import CommandNoise, CommandNoiseConfig, Joystick, JoystickConfig
from mbrl_policy.training_data import read_training_data
from mbrl_ros import qos

DAMPING = 0.2  # of the pendulum's safe action
NOISE = CommandNoiseConfig(noise_std=0.3, noise_seed=5)
PARAMETERS = ("noise_std:=0.3", "noise_seed:=5")


def hold(graph: Graph, stick: Stick) -> None:  # noqa: F811
    """The button, and an episode."""
    stick.down.add(DEAD_MAN)
    graph.wait(lambda: stick.states and stick.states[-1].selected == "teleop", "the person to be selected")
    stick.press(START, lambda: graph.time_steps, "the first episode")


def rows(plans: Iterable[Plan]) -> dict[int, np.ndarray]:
    """Actions [rows, 1] of a person's plans by the step that they answer."""
    return {plan.answers_step: np.array(plan.actions)[:, None] for plan in plans if plan.controller == "teleop"}


def check_noise(spec: RobotSpec, meant: dict[int, np.ndarray], sent: dict[int, np.ndarray], first: int = 0) -> int:
    """What was sent is what was meant with each step's own noise. Returns in how many plans from step `first` on."""
    answered = [step for step in sorted(sent) if step >= first]
    for step in answered:
        expected = CommandNoise(spec).disturbed(NOISE, meant[step], 1, step)
        np.testing.assert_array_equal(sent[step], expected)
        assert (expected != meant[step]).all()
    return len(answered)


def test_the_robot_is_disturbed_and_the_label_is_not(graph: Graph, tmp_path: Path) -> None:  # noqa: F811
    stick = start_desk(graph, tmp_path, *PARAMETERS)
    spec = load_robot(tmp_path / "slow_pendulum.yaml").spec
    stick.axis = 0.525  # half of what is beyond the dead zone
    hold(graph, stick)
    graph.wait(lambda: stick.served("teleop", 12, 0), "the person to move the robot")

    # Let go: nothing is planned any more, and the robot's own action is what its file says.
    stick.down.discard(DEAD_MAN)
    graph.wait(lambda: stick.states[-1].selected == "safe", "the robot to be let go")
    before = len(graph.time_steps)
    graph.wait(lambda: stick.served("safe", 4, before), "the safe action")
    stick.down.add(DEAD_MAN)
    graph.wait(lambda: stick.served("teleop", 3, before), "the person to move it again")
    stick.press(SUCCESS, lambda: graph.time_steps[-1].step_type == TimeStep.LAST, "the end of the episode")
    bag = finish_bag(graph)

    meant, sent = (rows(message for _, message in read_messages(bag, (topic,))) for topic in ("intended_plan", "plan"))
    assert check_noise(spec, meant, sent) >= 12
    # Deflections come in single precision.
    wanted = Joystick(JoystickConfig(), spec).read([float(np.float32(stick.axis)), 0.0], [0] * 8).action
    assert all((actions == wanted).all() for actions in meant.values())
    steps = read_time_steps(bag)
    executed = Intentions(spec)
    for step, actions in sent.items():
        executed.add("teleop", step, step, actions)
    pairs = [pair for pair in pairwise(steps) if pair[1].action_valid and pair[0].controller == pair[1].controller]
    assert {pair[1].controller for pair in pairs} == {"teleop", "safe"}
    for previous, step in pairs:
        if step.controller == "teleop":
            commands = [executed.said(previous), executed.said(step)]
        else:
            index = steps.index(step)
            commands = [-DAMPING * steps[index - age].state[1:] for age in (1, 2)]
        # A command acts a little after its sample, and the one before until then.
        low, high = np.min(commands, axis=0), np.max(commands, axis=0)
        assert (low - 1e-9 <= step.action).all() and (step.action <= high + 1e-9).all(), (step, commands)

    parts = read_training_data(bag, spec).parts(make_task("pendulum_upright"), ("teleop",))
    labels = Labels.joined([Labels.of_rollout(part) for part in parts])
    assert len(labels) >= 12
    np.testing.assert_array_equal(labels.actions, np.tile(wanted, (len(labels), 1)))
    assert np.std(np.concatenate([part.actions for part in parts])) > 0.05


def test_noise_is_changed_while_the_robot_moves_and_is_beside_a_partners_share(
    graph: Graph,  # noqa: F811
    tmp_path: Path,
) -> None:
    stick = start_desk(graph, tmp_path, "share:=0.25", "dead_zone:=0.0", "noise_seed:=5")
    spec = load_robot(tmp_path / "slow_pendulum.yaml").spec
    intended: list[Plan] = []
    graph.node.create_subscription(Plan, "intended_plan", intended.append, qos.STATUS)
    plans = graph.node.create_publisher(Plan, "plan", qos.PLAN)

    def plan_along(message: TimeStep) -> None:
        plan = Plan(version=Plan.VERSION, interface_hash=message.interface_hash, episode=message.episode, horizon=6)
        plan.start_step = plan.answers_step = message.step
        plan.controller, plan.actions, plan.predicted_return = "planner", [0.8] * 6, float("nan")
        plans.publish(plan)

    graph.node.create_subscription(TimeStep, "time_step", plan_along, qos.TIME_STEP_CONTROL)
    graph.wait(lambda: plans.get_subscription_count() >= 3, "those who hear plans")
    stick.axis = -0.4
    hold(graph, stick)
    graph.wait(lambda: stick.served("teleop", 4, 0), "the person to move the robot")
    for bad in (-0.1, 1.5, float("nan")):
        reason = stick.set("noise_std", bad)
        assert "noise_std" in reason and str(bad) in reason and "0.0" in reason and "1.0" in reason, reason
    quiet = graph.latest("teleop")
    assert stick.set("noise_std", 0.3) == ""
    graph.wait(lambda: graph.latest("teleop") >= quiet + 6, "disturbed plans")
    loud = graph.latest("teleop")
    assert stick.set("noise_std", 0.0) == ""
    graph.wait(lambda: graph.latest("teleop") >= loud + 4, "plans without noise")
    graph.wait(lambda: len(intended) >= len(rows(graph.plans)), "what was meant")

    meant, sent = rows(intended), rows(graph.plans)
    # The partner's newest plan may be that of the step before; its rows say the same.
    blended = [step for step in meant if np.allclose(meant[step], 0.25 * -0.4 + 0.75 * 0.8)]
    assert len(blended) >= 10
    # A plan that was under way when a parameter was set may be of before.
    assert check_noise(spec, meant, {step: sent[step] for step in sent if quiet + 2 <= step <= loud}) >= 4
    for step in sent:
        if step <= quiet or step >= loud + 2:
            np.testing.assert_array_equal(sent[step], meant[step])
