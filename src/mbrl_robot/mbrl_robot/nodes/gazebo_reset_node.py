# SPDX-License-Identifier: Apache-2.0
"""Serves reset_backend for a robot in Gazebo: the reset that episodes begin with."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.task import Future
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from mbrl_core.config import parameter
from mbrl_core.robot_file import load_robot
from mbrl_msgs.srv import ResetBackend
from mbrl_robot.gazebo_reset import Ask, ResetSequence
from mbrl_robot.nodes.gazebo_requests import Programs, Services, executable, gz_service
from mbrl_robot.state_estimation import JointStatesRefused, StateEstimator
from mbrl_ros import qos
from mbrl_ros.conversions import to_doubles
from mbrl_ros.health import Health
from mbrl_ros.parameters import declare, finish
from mbrl_ros.process import run
from mbrl_ros.steady import now_ns, steady_timer

POLL_PERIOD = 0.05
# robot_node asks again every 2 s until it is answered; so long after an answer it is the same question.
REPEATED_NS = 3_000_000_000
NEWEST_CLOCK = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
INTERFACES, BRIDGE = "simulation_interfaces/srv/", "ros_gz_interfaces/srv/"
RESULT_OK = 1  # simulation_interfaces/msg/Result
MODEL = 2  # ros_gz_interfaces/msg/Entity


@dataclass(frozen=True)
class GazeboResetConfiguration:
    """Parameters of gazebo_reset_node."""

    robot_file: str = parameter("", "Robot file (YAML): joints and command topic", read_only=True)
    path: str = parameter(
        "ros2_control", "ros2_control: the robot is removed and spawned anew; bridge: the world is reset",
        choices=("ros2_control", "bridge"), read_only=True,
    )  # fmt: skip
    world: str = parameter("mbrl", "Name of the world", read_only=True)
    model_file: str = parameter("", "SDF of the robot that is spawned on the path bridge", read_only=True)
    timeout: float = parameter(20.0, "Longest wait in each stage of a reset, seconds", minimum=1.0, read_only=True)


class GazeboResetNode(Node):
    """Sends zero, resets by what there is, and answers with the first state that is newer than the reset.

    The world is reset through simulation_interfaces, else through ros_gz_bridge, else by the command `gz service`. No
    service of Gazebo sets joint positions: a request for a certain state is refused, and the start state is Gazebo's.
    A request that comes again while its reset is under way, or just after, gets the same answer.
    """

    def __init__(self) -> None:
        super().__init__("gazebo_reset")
        self._configuration = declare(self, GazeboResetConfiguration)
        finish(self)
        self._robot = load_robot(self._configuration.robot_file)
        self._model = self._robot.spec.name
        self._health = Health(self)
        self._calls, self._programs = Services(self), Programs()
        self._estimator = StateEstimator(self._robot)
        self._sequence: ResetSequence | None = None
        self._asked = Ask.NOTHING
        self._request: tuple[int, int] | None = None
        self._repeated_until_ns = 0
        self._was_spawned = False
        self._result: Future[Any] | None = None
        self._listening: list[Subscription[Any]] = []
        self._commands = self.create_publisher(Float64MultiArray, self._robot.command_topic, qos.COMMAND)
        self._timer = steady_timer(self, POLL_PERIOD, self._poll)
        # Everything else has to go on while a request waits for its answer, further requests included.
        group = ReentrantCallbackGroup()
        self.create_service(ResetBackend, "reset_backend", self._reset, callback_group=group)

    def destroy_node(self) -> None:
        """Ends what was started."""
        self._programs.stop()
        super().destroy_node()

    async def _reset(self, request: ResetBackend.Request, response: ResetBackend.Response) -> ResetBackend.Response:
        if len(request.state):
            response.message = "reset_backend: Gazebo cannot set joint positions, expected a request without a state"
            self._health.refuse("start_state", response.message)
            return response
        key = (request.episode, request.seed)
        if self._sequence is not None and key != self._request:
            response.message = "reset_backend: another reset is under way"
            self._health.refuse("reset_under_way", response.message)
            return response
        if self._sequence is None and (key != self._request or now_ns() > self._repeated_until_ns):
            self._begin(key)
        result = self._result
        assert result is not None
        sequence: ResetSequence = await result
        if sequence.sample is None:
            response.message = f"reset_backend: {sequence.failure}"
            return response
        response.success = True
        response.state = to_doubles(sequence.sample.state)
        response.stamp_ns = sequence.sample.stamp_ns
        return response

    def _begin(self, key: tuple[int, int]) -> None:
        respawn = self._configuration.path == "ros2_control"
        self._request, self._result, self._asked = key, Future(), Ask.NOTHING
        timeout_ns = round(self._configuration.timeout * 1e9)
        self._sequence = ResetSequence(respawn, respawn, timeout_ns, now_ns(), is_of_the_world=not self._was_spawned)
        # ApplyJointForce goes on with its last force, also after the reset.
        self._commands.publish(Float64MultiArray(data=[0.0] * self._robot.spec.action.size))
        # Hundreds of messages a second: they are listened to in a reset alone.
        self._listening = [
            self.create_subscription(Clock, "/clock", self._take_clock, NEWEST_CLOCK),
            self.create_subscription(JointState, "joint_states", self._take_joint_states, qos.JOINT_STATES),
        ]

    def _take_clock(self, message: Clock) -> None:
        if self._sequence is not None:
            self._sequence.clock(Time.from_msg(message.clock).nanoseconds, now_ns())

    def _take_joint_states(self, message: JointState) -> None:
        if self._sequence is None:
            return
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        latest = self._estimator.latest
        if latest is not None and stamp_ns < latest.stamp_ns:
            self._estimator.restart(stamp_ns)
        try:
            sample = self._estimator.update(message.name, message.position, message.velocity, stamp_ns, now_ns())
        except JointStatesRefused as error:
            self._health.refuse(f"joint_states/{error.reason}", str(error))
            return
        if sample is not None:
            self._sequence.joint_states(sample)

    def _poll(self) -> None:
        self._programs.poll()
        sequence = self._sequence
        if sequence is None:
            return
        sequence.poll(now_ns())
        if sequence.over:
            self._conclude(sequence)
        elif sequence.ask is not self._asked:
            self._asked = sequence.ask
            self._do(sequence)

    def _conclude(self, sequence: ResetSequence) -> None:
        self._programs.stop()
        for subscription in self._listening:
            self.destroy_subscription(subscription)
        self._listening = []
        self._sequence = None
        if sequence.failure:
            self._health.error(sequence.failure)
            self.get_logger().error(f"reset_backend: {sequence.failure}")
        else:
            self._health.ok()
            self._was_spawned = sequence.created
        self._repeated_until_ns = now_ns() + REPEATED_NS if sequence.sample is not None else 0
        assert self._result is not None
        self._result.set_result(sequence)

    def _do(self, sequence: ResetSequence) -> None:
        def done(text: str) -> None:
            sequence.answered(text, now_ns())

        try:
            {
                Ask.NOTHING: lambda done: None,
                Ask.RESET_WORLD: self._reset_world,
                Ask.REMOVE: self._remove,
                Ask.CREATE: self._create,
                Ask.CONTROLLERS: self._spawn_controllers,
            }[sequence.ask](done)
        except FileNotFoundError as error:
            done(str(error))

    def _reset_world(self, done: Any) -> None:
        if name := self._calls.find(INTERFACES + "ResetSimulation"):
            self._used(name)
            self._calls.call(INTERFACES + "ResetSimulation", name, lambda request: None, _judge_result, done)
        elif name := self._calls.find(BRIDGE + "ControlWorld"):
            self._used(name)
            self._calls.call(BRIDGE + "ControlWorld", name, _fill_reset, _judge_success, done)
        else:
            service = f"/world/{self._configuration.world}/control"
            self._used(f"gz service {service}")
            self._programs.run(
                gz_service(service, "gz.msgs.WorldControl", "reset: {all: true}"), done, expected="data: true"
            )

    def _remove(self, done: Any) -> None:
        if name := self._calls.find(INTERFACES + "DeleteEntity"):
            self._used(name)
            fill = partial(_fill_entity_name, model=self._model)
            self._calls.call(INTERFACES + "DeleteEntity", name, fill, _judge_result, done)
        elif name := self._calls.find(BRIDGE + "DeleteEntity"):
            self._used(name)
            fill = partial(_fill_entity, model=self._model)
            self._calls.call(BRIDGE + "DeleteEntity", name, fill, _judge_success, done)
        else:
            service = f"/world/{self._configuration.world}/remove"
            self._used(f"gz service {service}")
            what = f'name: "{self._model}" type: MODEL'
            self._programs.run(gz_service(service, "gz.msgs.Entity", what), done, expected="data: true")

    def _create(self, done: Any) -> None:
        model = ("file", self._configuration.model_file)
        if self._configuration.path == "ros2_control":
            model = ("topic", "robot_description")
        words = [executable("ros_gz_sim", "create"), "--ros-args", *self._namespace()]
        for name, value in (("world", self._configuration.world), model, ("name", self._model)):
            words += ["-p", f"{name}:={value}"]
        self._programs.run(words, done)

    def _spawn_controllers(self, done: Any) -> None:
        controller = self._robot.command_topic.removesuffix("/commands")
        words = [executable("controller_manager", "spawner"), "joint_state_broadcaster", controller]
        timeout = f"{self._configuration.timeout:g}"
        self._programs.run([*words, "--controller-manager-timeout", timeout, "--ros-args", *self._namespace()], done)

    def _namespace(self) -> list[str]:
        return ["-r", f"__ns:={self.get_namespace()}"]

    def _used(self, what: str) -> None:
        self._health.set("resets_by", what)


def _fill_reset(request: Any) -> None:
    # `pause` left out means that Gazebo runs afterwards.
    request.world_control.reset.all = True


def _fill_entity_name(request: Any, model: str) -> None:
    request.entity = model


def _fill_entity(request: Any, model: str) -> None:
    request.entity.name = model
    request.entity.type = MODEL


def _judge_result(response: Any) -> str:
    result = response.result
    return "" if result.result == RESULT_OK else f"result {result.result}: {result.error_message or 'no reason given'}"


def _judge_success(response: Any) -> str:
    return "" if response.success else "Gazebo says no"


def main() -> int:
    """Runs the node; returns the exit status."""
    return run(GazeboResetNode)
