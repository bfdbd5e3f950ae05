# SPDX-License-Identifier: Apache-2.0
"""The committed launch files with a robot under the stand-in of ros2_control, and a test node that talks to them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from ros2_control_stand_in.prefix import PHYSICS, make_prefix
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray, String
from std_srvs.srv import Trigger

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "src" / "mbrl_robot" / "test"))

from robot_graph import Graph  # noqa: E402

from mbrl_bringup.domains import range_of_this_machine  # noqa: E402
from mbrl_core.robot_file import load_robot  # noqa: E402
from mbrl_msgs.msg import Plan, TimeStep  # noqa: E402
from mbrl_ros import qos  # noqa: E402
from mbrl_ros.conversions import to_doubles  # noqa: E402

CARTPOLE = ROOT / "config" / "robots" / "cartpole.yaml"
COMMAND = [sys.executable, "-c", "import sys; from mbrl_bringup.cli import main; sys.exit(main(sys.argv[1:]))"]
NODES = ("robot", "watchdog", "hardware", "teleop", "recorder")
# Per interface: limits, scale, safe action; the cart-pole's drive in three ways.
DRIVES: dict[str, tuple[list[float], float, dict[str, Any]]] = {
    "effort": ([-3.0, 3.0], 100.0, {"kind": "damping", "gains": [0.3]}),
    "velocity": ([-1.0, 1.0], 0.5, {"kind": "zero"}),
    "position": ([-2.0, 2.0], 1.0, {"kind": "hold"}),
}
UPDATE_RATE = 100  # Hz; the test machine has two cores


class Hardware(Graph):
    """A launch in a folder and a ROS domain of its own. Answers time steps by plans of `action`, where there is one."""

    def __init__(self, folder: Path, domain: int, interface: str = "effort", **settings: Any) -> None:
        super().__init__(domain)
        self.folder = folder
        self._domain_number = domain
        self.topic = f"{interface}_controller/commands"
        self.environment = {
            **os.environ, **make_prefix(folder / "prefix"), PHYSICS: str(CARTPOLE), "MBRL_ROOT": str(folder),
            "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": range_of_this_machine(),
            "PYTHONUNBUFFERED": "1", "FASTDDS_DEFAULT_PROFILES_FILE": str(self._short_lease()),
        }  # fmt: skip
        self._write_files(interface, settings)
        self.launch: subprocess.Popen[bytes] | None = None
        self.commands: list[list[float]] = []
        self.dry: list[list[float]] = []
        self.applied: list[float] = []
        self.position = self.velocity = float("nan")
        self.readiness = DiagnosticStatus()
        self.action: float | None = None
        self.answer = self._answer
        node = self.node
        node.create_subscription(Float64MultiArray, self.topic, lambda m: self.commands.append(list(m.data)), 50)
        node.create_subscription(Float64MultiArray, "dry_run/commands", lambda m: self.dry.append(list(m.data)), 50)
        node.create_subscription(Float64MultiArray, "controller_manager/applied", self._take_applied, 1)
        node.create_subscription(JointState, "joint_states", self._take_joint_states, qos.JOINT_STATES)
        node.create_subscription(DiagnosticStatus, "readiness", self._take_readiness, qos.LATCHED)
        self.by_hand = node.create_publisher(Float64MultiArray, "controller_manager/move_by_hand", 1)
        self._stops: Any = None

    def _short_lease(self) -> Path:
        """A profile with which a process that was killed leaves the graph after 3 s, not after 20."""
        text = (ROOT / "config" / "dds" / "fastdds_local.xml").read_text()
        lease = "<leaseDuration><sec>3</sec></leaseDuration><leaseAnnouncement><sec>1</sec></leaseAnnouncement>"
        file = self.folder / "fastdds.xml"
        file.write_text(text.replace("<discovery_config>", f"<discovery_config>{lease}"))
        return file

    def _write_files(self, interface: str, settings: dict[str, Any]) -> None:
        limits, scale, safe_action = DRIVES[interface]
        robot = yaml.safe_load(CARTPOLE.read_text())
        robot["control"]["command_topic"] = self.topic
        robot["actions"] = [{"joint": "slider", "interface": interface, "limits": limits, "scale": scale}]
        robot["safe_action"] = safe_action
        self.robot_file = self.folder / "robot.yaml"
        self.robot_file.write_text(yaml.safe_dump(robot))
        self.robot = load_robot(self.robot_file)
        self.spec = self.robot.spec
        urdf = ROOT / "src" / "mbrl_description" / "urdf"
        (self.folder / "cartpole.urdf").write_text((urdf / "cartpole.urdf").read_text())
        xacro = (urdf / "cartpole_ros2_control.urdf.xacro").read_text()
        xacro = xacro.replace('<command_interface name="effort">', f'<command_interface name="{interface}">')
        (self.folder / "description.urdf.xacro").write_text(xacro)
        controllers = yaml.safe_load((ROOT / "config" / "gazebo" / "cartpole_controllers.yaml").read_text())
        manager = controllers["controller_manager"]["ros__parameters"]
        manager["update_rate"] = UPDATE_RATE
        manager[f"{interface}_controller"] = manager.pop("effort_controller")
        own = controllers.pop("effort_controller")
        own["ros__parameters"]["interface_name"] = interface
        controllers[f"{interface}_controller"] = own
        (self.folder / "controllers.yaml").write_text(yaml.safe_dump(controllers))
        parameters: dict[str, Any] = {
            f"/**/{node}": {"ros__parameters": {"robot_file": str(self.robot_file)}} for node in NODES
        }
        # A busy test machine is no pulled cable.
        for node in ("robot", "hardware"):
            parameters[f"/**/{node}"]["ros__parameters"]["joint_states_timeout"] = 1.0
        for node, values in settings.items():
            parameters[f"/**/{node}"]["ros__parameters"].update(values)
        (self.folder / "parameters.yaml").write_text(yaml.safe_dump(parameters))
        self._arguments = [
            f"description:={self.folder / 'description.urdf.xacro'}",
            f"controllers:={self.folder / 'controllers.yaml'}",
            f"command_controller:={interface}_controller",
            f"parameters:={self.folder / 'parameters.yaml'}",
        ]

    def bring_up(self, file: str = "", **arguments: str) -> None:
        """Launches record.launch.yaml, or hardware.launch.yaml with robot_node and watchdog alone."""
        words = [f"{name}:={value}" for name, value in arguments.items()]
        if not file:
            file, words = str(self._small_launch_file()), words
        else:
            words.append("backend:=hardware")
        log = open(self.folder / "screen.log", "wb")  # noqa: SIM115 - lives as long as the process
        self.launch = subprocess.Popen(
            [*COMMAND, "launch", file, *self._arguments, *words, f"run_directory:={self.folder / 'run'}"],
            env=self.environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _small_launch_file(self) -> Path:
        names = ("robot", "description", "controllers", "command_controller", "reset", "dry_run", "parameters")
        given = "\n".join(f"        - {{name: {name}, value: $(var {name})}}" for name in names)
        nodes = "".join(
            f"""  - node:
      pkg: mbrl_robot
      exec: {name}_node
      name: {name}
      output: screen
      param:
        - {{name: robot_file, value: {self.robot_file}, type: str}}
{more}        - {{from: $(var parameters)}}
"""
            for name, more in (
                (
                    "robot",
                    "        - {name: require_ready, value: true}\n"
                    "        - {name: dry_run, value: $(var dry_run), type: bool}\n",
                ),
                ("watchdog", ""),
            )
        )
        declared = "".join(
            f"  - arg: {{name: {name}, default: '{default}'}}\n"
            for name, default in zip(names, ("cartpole", "", "", "", "none", "false", ""), strict=True)
        )
        file = self.folder / "small.launch.yaml"
        file.write_text(
            f"launch:\n{declared}  - arg: {{name: run_directory, default: $(log_dir)}}\n"
            f"  - include:\n      file: {ROOT}/launch/hardware.launch.yaml\n      arg:\n{given}\n{nodes}"
        )
        return file

    # --- what there is to see -------------------------------------------------------------------------------------

    @property
    def screen(self) -> str:
        """What the launch has shown so far."""
        return (self.folder / "screen.log").read_text()

    @property
    def why(self) -> str:
        """What is missing, as hardware_node says."""
        return str(self.readiness.message)

    def pid_of(self, program: str) -> int:
        """The process of this launch that runs a program."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                variables = (entry / "environ").read_bytes()
            except OSError:
                continue
            program_words = [word.decode(errors="replace").rpartition("/")[2] for word in words[:3]]
            if f"MBRL_ROOT={self.folder}\0".encode() in variables and program in program_words:
                found.append(int(entry.name))
        assert len(found) == 1, (program, found)
        return found[0]

    def wait(self, condition: Callable[[], Any], seconds: float = 30.0) -> None:
        """Spins until `condition` holds; fails the test with what the launch said when it does not."""
        self.spin_until(condition, seconds)
        if not condition():
            pytest.fail(f"waited {seconds} s in vain; readiness: {self.why}\n{self.screen}")

    # --- what a person does ---------------------------------------------------------------------------------------

    def hold_stop_ready(self) -> None:
        """Somebody who could stop the robot is there."""
        self._stops = self.node.create_publisher(Bool, "emergency_stop", qos.LATCHED)

    def confirm(self) -> bool:
        """Says that the robot is at its start, again where it is refused since it still moves."""
        said = [self.call(Trigger, "confirm_reset")]
        while not said[-1].success and len(said) < 20:
            self.spin(0.5)
            said.append(self.call(Trigger, "confirm_reset"))
        assert said[-1].success, (said[-1].message, self.screen)
        return True

    def command(self, *words: str, **how: Any) -> "subprocess.Popen[str]":
        """`./mbrl WORDS` in another terminal, its keyboard a pipe."""
        return subprocess.Popen(
            [*COMMAND, *words], env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, **how,
        )  # fmt: skip

    def move_by_hand(self, state: list[float]) -> None:
        """Puts the robot into a state, at once."""
        self.by_hand.publish(Float64MultiArray(data=state))

    def switch(self, controller: str, active: bool) -> None:
        """As `ros2 control set_controller_state`."""
        assert self.call(Trigger, f"controller_manager/{'' if active else 'de'}activate_{controller}").success

    def start_alone(self, package: str, program: str, *words: str) -> "subprocess.Popen[bytes]":
        """A program of the stand-in, as by hand in another terminal."""
        return subprocess.Popen(
            [str(self.folder / "prefix" / "lib" / package / program), *words], env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def describe(self, text: str) -> Any:
        """Publishes another robot_description; the publisher."""
        publisher = self.node.create_publisher(String, "robot_description", qos.LATCHED)
        publisher.publish(String(data=text))
        return publisher

    def quiet_for(self, seconds: float) -> bool:
        """Whether no command comes for a while."""
        self.spin(0.1)
        before = len(self.commands)
        self.spin(seconds)
        return len(self.commands) == before

    def close(self) -> None:
        """Ends the launch, and whatever it has left."""
        if self.launch is not None:
            self.launch.send_signal(signal.SIGINT)
            try:
                self.launch.wait(15.0)
            except subprocess.TimeoutExpired:
                self.launch.kill()
                self.launch.wait()
        super().close()

    # --- topics ---------------------------------------------------------------------------------------------------

    def _answer(self, time_step: TimeStep) -> Plan | None:
        if self.action is None:
            return None
        return self.make_plan(time_step, actions=to_doubles(np.full(6, self.action)))

    def _take_applied(self, message: Float64MultiArray) -> None:
        self.applied = list(message.data)

    def _take_joint_states(self, message: JointState) -> None:
        index = list(message.name).index("slider")
        self.position, self.velocity = message.position[index], message.velocity[index]

    def _take_readiness(self, message: DiagnosticStatus) -> None:
        self.readiness = message

    def missing(self) -> list[str] | None:
        """Names of the checks that fail; None before hardware_node has said anything."""
        names = [item.key for item in self.readiness.values if item.value != "passed"]
        return names if self.readiness.values else None

    @staticmethod
    def end(process: "subprocess.Popen[bytes]") -> None:
        """Ends a program that was started alone."""
        process.terminate()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @staticmethod
    def now() -> float:
        """Steady time, s."""
        return time.monotonic()
