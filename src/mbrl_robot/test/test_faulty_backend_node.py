# SPDX-License-Identifier: Apache-2.0
"""robot_node and mujoco_node with faulty_backend_node between: every fault, live, and what becomes of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from robot_graph import DISCOVERY, Graph
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_msgs.msg import TimeStep
from mbrl_ros import qos

REMAP = {"joint_states": "backend/joint_states", "effort_controller/commands": "backend/effort_controller/commands"}
LIMIT = 300.0


class Scene:
    """The three nodes, what both sides of the line have heard, and the parameters of the line."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.heard: dict[str, list[Any]] = {}
        for topic, message_type in (("joint_states", JointState), ("effort_controller/commands", Float64MultiArray)):
            for name in (topic, REMAP[topic]):
                self.heard[name] = []
                profile = qos.JOINT_STATES if message_type is JointState else 1000
                graph.node.create_subscription(message_type, name, self.heard[name].append, profile)
        graph.start("mujoco", remap=REMAP)
        graph.start("faulty_backend", seed=3)
        graph.start("robot")
        self.client = graph.node.create_client(SetParametersAtomically, "faulty_backend/set_parameters_atomically")
        graph.wait(self.client.service_is_ready, DISCOVERY)
        graph.answer = lambda time_step: graph.make_plan(time_step, delay=1)

    def set(self, **values: Any) -> Any:
        """Sets faults, `joint_states__drop` and so on; returns the answer."""
        parameters = [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]
        request = SetParametersAtomically.Request(parameters=[item.to_parameter_msg() for item in parameters])
        future = self.client.call_async(request)
        self.graph.wait(future.done)
        return future.result().result

    def start(self) -> int:
        """Starts an episode that moves and returns its number."""
        result = self.graph.start_episode(controller="planner", start_state=[0.0, 1.0, 1.0, 0.0])
        assert result.success, result.message
        self.graph.wait(lambda: any(step.controller == "planner" for step in self.graph.of(result.episode)))
        return int(result.episode)

    def has_ended(self, episode: int) -> bool:
        """Whether LAST of an episode has come."""
        return self.graph.of(episode)[-1].step_type == TimeStep.LAST

    def count(self, kind: str) -> int:
        """How often the line has done something, as its diagnostics say."""
        return int(self.graph.diagnostics.get("/faulty_backend", {}).get(kind, 0))

    def refused(self, node: str, kind: str) -> int:
        """How many inputs of a kind a node has refused."""
        return self.graph.refused(node, kind)


@pytest.fixture(scope="module")
def shared_scene(shared_graph: Graph) -> Scene:
    """The nodes, started once."""
    return Scene(shared_graph)


@pytest.fixture
def scene(shared_scene: Scene) -> Iterator[Scene]:
    """No faults before and after each test; whatever happened, robot_node sent only commands that may be sent."""
    yield shared_scene
    assert shared_scene.set(
        joint_states__drop=0.0, joint_states__delay=0.0, joint_states__jitter=0.0, joint_states__duplicate=0.0,
        joint_states__reorder=0.0, joint_states__corrupt=0.0, joint_states__freeze=False, commands__drop=0.0,
        commands__corrupt=0.0, commands__duplicate=0.0, commands__freeze=False,
    ).successful  # fmt: skip
    commands = [list(message.data) for message in shared_scene.heard["effort_controller/commands"]]
    assert all(len(command) == 1 and np.isfinite(command[0]) and abs(command[0]) <= LIMIT for command in commands)


def test_without_faults_an_episode_runs_as_ever(scene: Scene) -> None:
    graph = scene.graph
    result = graph.start_episode(controller="planner", max_steps=25)
    assert result.success, result.message
    steps = graph.episode(result.episode)
    assert steps[-1].end_reason == TimeStep.TIME_LIMIT
    graph.wait(lambda: scene.count("joint_states/received") > 50 and scene.count("commands/received") > 20)
    assert scene.count("joint_states/dropped") == scene.count("commands/corrupted") == 0
    assert graph.diagnostics["/faulty_backend"]["message"] == "passes everything on"


@pytest.mark.parametrize(
    ("corruption", "kind"), [("not_a_number", "non_finite"), ("infinite", "non_finite"), ("too_short", "wrong_length"),
                             ("too_long", "wrong_length")],
)  # fmt: skip
def test_spoiled_joint_states_are_refused_and_end_the_episode_when_no_other_come(
    scene: Scene, corruption: str, kind: str
) -> None:
    graph = scene.graph
    episode = scene.start()
    before = scene.refused("robot", f"joint_states/{kind}")
    scene.set(joint_states__corrupt=0.3, joint_states__corruption=corruption)
    graph.wait(lambda: scene.refused("robot", f"joint_states/{kind}") > before)
    scene.set(joint_states__corrupt=1.0)
    steps = graph.episode(episode)
    assert steps[-1].end_reason == TimeStep.FAULT and all(np.isfinite(step.state).all() for step in steps)


def test_silence_ends_the_episode_and_the_safe_action_without_a_state_is_zero(scene: Scene) -> None:
    graph = scene.graph
    episode = scene.start()
    scene.set(joint_states__drop=1.0)
    assert graph.episode(episode)[-1].end_reason == TimeStep.FAULT
    graph.wait(lambda: scene.heard["effort_controller/commands"][-1].data[0] == 0.0)


def test_reordered_and_doubled_joint_states_do_not_run_time_backwards(scene: Scene) -> None:
    graph = scene.graph
    episode = scene.start()
    before = scene.refused("robot", "joint_states/time_backwards")
    scene.set(joint_states__reorder=0.3, joint_states__duplicate=0.3)
    graph.wait(lambda: scene.refused("robot", "joint_states/time_backwards") > before)
    graph.wait(lambda: scene.count("joint_states/duplicated") > 0)
    assert not scene.has_ended(episode)


def test_late_joint_states_are_old_ones(scene: Scene) -> None:
    graph, delay = scene.graph, 0.1
    scene.start()
    scene.set(joint_states__delay=delay)
    graph.wait(lambda: scene.count("joint_states/delayed") > 10)

    def age() -> float:
        # The newest on both sides of the line.
        stamps = [scene.heard[name][-1].header.stamp for name in ("joint_states", "backend/joint_states")]
        after, before = (stamp.sec + stamp.nanosec * 1e-9 for stamp in stamps)
        return before - after

    graph.wait(lambda: age() > 0.5 * delay)


def test_frozen_joint_states_keep_their_numbers_and_get_new_stamps(scene: Scene) -> None:
    graph = scene.graph
    episode = scene.start()
    scene.set(joint_states__freeze=True)
    graph.wait(lambda: scene.count("joint_states/frozen") > 0)
    begin = len(graph.of(episode))
    graph.wait(lambda: len(graph.of(episode)) > begin + 5)
    states = np.array([step.state for step in graph.of(episode)[begin + 1 :]])
    # Nothing in the messages shows it: only a model can find out.
    assert (states == states[0]).all() and not scene.has_ended(episode)


@pytest.mark.parametrize(("corruption", "kind"), [("not_a_number", "non_finite"), ("too_long", "wrong_length")])
def test_spoiled_commands_are_refused_by_the_backend(scene: Scene, corruption: str, kind: str) -> None:
    scene.start()
    before = scene.refused("mujoco", kind)
    scene.set(commands__corrupt=0.5, commands__corruption=corruption)
    scene.graph.wait(lambda: scene.refused("mujoco", kind) > before)


def test_lost_commands_are_what_the_time_out_of_the_backend_is_for(scene: Scene) -> None:
    scene.start()
    scene.set(commands__drop=1.0)
    scene.graph.wait(lambda: scene.heard["backend/joint_states"][-1].effort[0] == 0.0)
    scene.graph.wait(lambda: "the command is zero now" in scene.graph.output("mujoco"))


def test_frozen_and_doubled_commands(scene: Scene) -> None:
    graph = scene.graph
    scene.start()
    scene.set(commands__freeze=True, commands__duplicate=1.0)
    graph.wait(lambda: scene.count("commands/frozen") > 5 and scene.count("commands/duplicated") > 5)
    end = scene.heard["backend/effort_controller/commands"][-5:]
    assert len({message.data[0] for message in end}) == 1


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"joint_states__drop": 1.5}, "joint_states.drop"),
        ({"commands__delay": -1.0}, "commands.delay"),
        ({"commands__corruption": "rust"}, "'rust', expected one of not_a_number, infinite, too_short, too_long, any"),
        ({"seed": 4}, "seed"),
    ],
)
def test_bad_parameters_are_refused_by_name(scene: Scene, values: dict[str, object], text: str) -> None:
    answer = scene.set(**values)
    assert not answer.successful and text in answer.reason


def test_the_parameter_file_of_the_documentation_is_one(graph: Graph, tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "safety.md").read_text()
    content = next(block for block in text.split("```yaml\n") if block.startswith("/**/faulty_backend")).partition(
        "```"
    )
    file = tmp_path / "faults.yaml"
    file.write_text(content[0])
    graph.start("faulty_backend", parameter_file=file)
    graph.wait(lambda: graph.diagnostics.get("/faulty_backend", {}).get("message", "").startswith("faults are on"))
