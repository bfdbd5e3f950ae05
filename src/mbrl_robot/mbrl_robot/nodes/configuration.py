# SPDX-License-Identifier: Apache-2.0
"""Parameters of robot_node."""

from dataclasses import dataclass

from mbrl_core.config import ConfigurationError, parameter
from mbrl_robot.nodes.precedence import memory_parameter, priority_parameter


@dataclass(frozen=True)
class RobotConfiguration:
    """Parameters of robot_node."""

    robot_file: str = parameter("", "Robot file (YAML)", read_only=True)
    mode: str = parameter(
        "realtime",
        "realtime: ticks on the steady clock; simulated: ticks by the stamps of joint_states, at any real-time factor;"
        " lockstep: steps the backend by service and waits for answers",
        choices=("realtime", "simulated", "lockstep"),
        read_only=True,
    )
    seed: int = parameter(0, "Keys start states of episodes that bring no seed of their own", minimum=0, read_only=True)
    joint_states_timeout: float = parameter(
        0.2,
        "Age of the newest joint states, seconds, after which a realtime episode ends with FAULT; a simulated one does"
        " when nobody publishes them any more",
        minimum=0.001,
        read_only=True,
    )
    scheduling_priority: int = priority_parameter("Realtime: ")
    lock_memory: bool = memory_parameter("Realtime: ")
    start_timeout: float = parameter(
        30.0, "Longest wait in each phase of start_episode, seconds", minimum=0.1, read_only=True
    )
    synchronise_learner: bool = parameter(
        False, "Lockstep: wait until the learner has digested each time step", read_only=True
    )
    delay_steps: int = parameter(
        0,
        "Lockstep: a plan that answers step k counts from step k + delay_steps on",
        minimum=0,
        maximum=100,
        read_only=True,
    )
    require_ready: bool = parameter(
        False, "Send no command before hardware_node has found that all checks pass; on real robots", read_only=True
    )
    dry_run: bool = parameter(
        False, "Publish commands on dry_run/commands instead of the command topic, and say what they were",
        read_only=True,
    )  # fmt: skip
    lockstep_timeout: float = parameter(
        60.0, "Lockstep: longest wait for a plan, the backend or the learner, seconds", minimum=0.1, read_only=True
    )
    lockstep_pace: float = parameter(
        0.0, "Lockstep: largest speed as a multiple of real time; 0 = as fast as possible", minimum=0.0, read_only=True
    )

    def __post_init__(self) -> None:
        if self.mode == "lockstep" and (self.require_ready or self.dry_run):
            raise ConfigurationError(
                "parameter 'mode': got 'lockstep' with require_ready or dry_run, expected 'realtime': a real robot does"
                " not wait"
            )
