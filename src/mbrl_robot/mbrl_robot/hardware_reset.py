# SPDX-License-Identifier: Apache-2.0
"""How a real robot gets to its start: the rules of reset_backend on hardware, without ROS.

robot_node asks again and again with the same request until the answer is no longer `pending`. Whoever stops asking has
given up, and a homing motion ends there.
"""

from dataclasses import dataclass

import numpy as np

from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_robot.homing import Homing

DEFAULT_SPEEDS = {"linear": 0.1, "angular": 0.3}
# Nobody has asked for so long: nobody wants it any more. More than twice the time between two questions.
LOST_INTEREST_NS = 3_000_000_000
Key = tuple[int, int, tuple[float, ...]]


@dataclass(frozen=True)
class Criteria:
    """kind: confirm, homing or none. Times in s, tolerance in m or rad, speeds and gains [action_size] or empty."""

    kind: str
    confirm_timeout: float = 600.0
    settle_timeout: float = 30.0
    homing_timeout: float = 60.0
    tolerance: float = 0.03
    speeds: tuple[float, ...] = ()
    gains: tuple[float, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """An answer."""

    success: bool
    pending: bool
    message: str

    @property
    def failed(self) -> bool:
        """Whether it is final, and no."""
        return not self.success and not self.pending


class HardwareReset:
    """One reset at a time. Raises SpecError where homing is asked for with speeds or gains that make no sense."""

    def __init__(self, robot: Robot, criteria: Criteria) -> None:
        self._robot = robot
        self._criteria = criteria
        self._key: Key | None = None
        self._began_ns = 0
        self._asked_ns = 0
        self._confirmed = False
        self._answered: Outcome | None = None
        self._homing: Homing | None = None
        self._homing_since_ns = 0
        self._commanded_ns = 0
        self._runaway = ""
        self.message = "idle"
        if criteria.kind == "homing":
            self._make_homing(self._start_positions())

    @property
    def is_homing(self) -> bool:
        """Whether `homing_command` is to be called every control period."""
        return self._homing is not None and self._key is not None

    def ask(self, key: Key, start: Array, state: Array | None, missing: list[str], time_ns: int) -> Outcome:
        """What is to be answered at the steady time `time_ns`.

        `start` is the state [state_size] that was asked for, or empty; `state` [state_size] what the robot is in;
        `missing` what the checks find.
        """
        if key == self._key and time_ns - self._asked_ns > LOST_INTEREST_NS:
            self._key = None
        if key != self._key:
            self._begin(key, time_ns)
        self._asked_ns = time_ns
        if self._answered is None:
            outcome = self._go_on(start, state, missing, time_ns)
            self.message = outcome.message
            if outcome.pending:
                return outcome
            # Asked again, since an answer can be lost, it is the same.
            self._answered = outcome
            self._homing = None
        return self._answered

    def confirm(self, missing: list[str], time_ns: int) -> tuple[bool, str]:
        """A person says that the robot is where an episode is to start. Whether that is taken, and why not."""
        waiting = self._key is not None and self._answered is None and time_ns - self._asked_ns < LOST_INTEREST_NS
        if self._criteria.kind != "confirm":
            return False, f"reset is {self._criteria.kind!r}: nobody is waited for"
        if not waiting:
            return False, "no episode is waiting for a confirmation"
        if missing:
            return False, "; ".join(missing)
        self._confirmed = True
        return True, "confirmed"

    def homing_command(self, state: Array | None, time_ns: int) -> Array | None:
        """SI command [action_size] towards the start in `state` [state_size]; None when it is over."""
        homing = self._homing
        if homing is None or state is None or time_ns - self._asked_ns > LOST_INTEREST_NS:
            self._homing = None
            return None
        self._runaway = homing.runaway(state)
        if self._runaway:
            self._homing = None
            return None
        elapsed = min((time_ns - self._commanded_ns) * 1e-9, 2.0 * self._robot.spec.period)
        self._commanded_ns = time_ns
        return homing.command(state, elapsed)

    def _begin(self, key: Key, time_ns: int) -> None:
        self._key, self._began_ns = key, time_ns
        self._confirmed = False
        self._answered = None
        self._homing = None
        self._runaway = ""

    def _go_on(self, start: Array, state: Array | None, missing: list[str], time_ns: int) -> Outcome:
        refusal = self._why_not(start)
        if refusal:
            return Outcome(False, False, refusal)
        waited = (time_ns - self._began_ns) * 1e-9
        if state is None:
            return Outcome(False, False, "; ".join(missing) or "no joint_states")
        if self._criteria.kind == "homing":
            return self._home(start, state, missing, waited, time_ns)
        if self._criteria.kind == "confirm" and not self._confirmed:
            if waited > self._criteria.confirm_timeout:
                return Outcome(False, False, f"nobody has confirmed within {self._criteria.confirm_timeout:g} s")
            return Outcome(
                False, True, "put the robot where an episode starts, stand clear, then `./mbrl robot confirm`"
            )
        if self._criteria.kind == "confirm" or not missing:
            return Outcome(True, False, "")
        if waited > self._criteria.settle_timeout:
            return Outcome(False, False, f"after {self._criteria.settle_timeout:g} s: {'; '.join(missing)}")
        return Outcome(False, True, "; ".join(missing))

    def _home(self, start: Array, state: Array, missing: list[str], waited: float, time_ns: int) -> Outcome:
        if self._runaway:
            return Outcome(False, False, f"homing given up: {self._runaway}")
        if self._homing is None:
            # Not while it moves by itself, nor from beyond its limits.
            if missing and waited <= self._criteria.settle_timeout:
                return Outcome(False, True, "; ".join(missing))
            if missing:
                return Outcome(False, False, f"no homing: {'; '.join(missing)}")
            target = start[: len(self._robot.joints)][list(self._robot.action_joints)] if len(start) else None
            self._homing = self._make_homing(self._start_positions() if target is None else target)
            self._homing_since_ns = self._commanded_ns = time_ns
        far = np.abs(self._homing.way_left(state))
        worst = int(np.argmax(far))
        left = f"joint {self._robot.spec.action.names[worst]!r} is {far[worst]:.3f} from its start"
        if far[worst] <= self._criteria.tolerance and not missing:
            return Outcome(True, False, "")
        if far[worst] <= self._criteria.tolerance:
            left = "; ".join(missing)
        moving = (time_ns - self._homing_since_ns) * 1e-9
        if moving > self._criteria.homing_timeout:
            return Outcome(False, False, f"homing given up after {moving:.0f} s: {left}")
        return Outcome(False, True, f"homing: {left}")

    def _why_not(self, start: Array) -> str:
        if not len(start):
            return ""
        size = self._robot.spec.state.size
        if start.shape != (size,) or not np.isfinite(start).all():
            return f"state {start.tolist()}, expected {size} finite numbers or none"
        if self._criteria.kind != "homing":
            return f"a start state was asked for, which reset {self._criteria.kind!r} cannot bring about: homing can"
        if start[len(self._robot.joints) :].any():
            return "a start state with velocities was asked for; homing ends at rest"
        return ""

    def _start_positions(self) -> Array:
        return np.array(self._robot.start.position_mean)[list(self._robot.action_joints)]

    def _make_homing(self, target: Array) -> Homing:
        robot, criteria = self._robot, self._criteria
        kinds = [robot.joints[index].kind for index in robot.action_joints]
        speeds = np.array(criteria.speeds or [DEFAULT_SPEEDS[kind] for kind in kinds])
        if criteria.gains or robot.mjcf is None or robot.spec.action.interfaces[0] != "effort":
            return Homing(robot, target, speeds, np.array(criteria.gains, dtype=np.float64))
        # Imported here: only efforts need MuJoCo.
        from mbrl_robot.inverse_dynamics import InverseDynamics

        return Homing(robot, target, speeds, efforts=InverseDynamics(robot).efforts)
