# SPDX-License-Identifier: Apache-2.0
"""What a reset of a robot in Gazebo consists of, one thing after another; without ROS.

Two ways. The world is reset: time goes back to 0, and models that were spawned are gone, so that the robot is spawned
anew unless it is part of the world file. Or the robot alone is removed and spawned anew, and time goes on: ros2_control
in Gazebo does not outlive a reset of the world (ros-controls/gz_ros2_control, issues 189 and 636).
"""

from enum import Enum

from mbrl_robot.state_estimation import Sample

# Stamps go on for a moment after an answer, which only says that the request has been queued.
QUIET_NS = 300_000_000
# A robot that is part of the world shows itself sooner than this after a reset.
PRESENCE_NS = 1_000_000_000


class Ask(Enum):
    """What somebody has to do next."""

    NOTHING = "wait"
    RESET_WORLD = "reset the world"
    REMOVE = "remove the robot"
    CREATE = "spawn the robot"
    CONTROLLERS = "spawn the controllers"


class Stage(Enum):
    """How far a reset has come."""

    ASKED = "the answer"
    BEGINNING = "time to go back"
    QUIET = "the old robot's joint_states to end"
    PRESENCE = "joint_states of the robot in the world"
    SAMPLE = "joint_states newer than the reset"
    DONE = "done"
    FAILED = "failed"


class ResetSequence:
    """Goes from stage to stage by answers, stamps and time. All times in nanoseconds; `time_ns` is steady.

    `ask` is to be done once whenever it changes, and then to be `answered`. `sample` is the robot's first valid state
    after the reset, `failure` says why there is none. `created`: the robot was spawned.
    """

    def __init__(
        self, respawn: bool, with_controllers: bool, timeout_ns: int, time_ns: int, is_of_the_world: bool = True
    ) -> None:
        """`is_of_the_world` false: the robot is known to be no part of the world file, and is not waited for."""
        self.stage = Stage.ASKED
        self.ask = Ask.REMOVE if respawn else Ask.RESET_WORLD
        self.sample: Sample | None = None
        self.failure = ""
        self._respawn = respawn
        self._with_controllers = with_controllers
        self._timeout_ns = timeout_ns
        self._presence_ns = PRESENCE_NS if is_of_the_world else 0
        self.created = False
        self._entered_ns = time_ns
        self._earliest_arrival_ns = 0
        self._clock_ns: int | None = None
        self._sample_ns = time_ns

    @property
    def over(self) -> bool:
        """Whether it has come to an end, good or bad."""
        return self.stage in (Stage.DONE, Stage.FAILED)

    def answered(self, text: str, time_ns: int) -> None:
        """What was asked has been done; `text` says what went wrong, if anything."""
        asked, self.ask = self.ask, Ask.NOTHING
        if self.over:
            return
        if text:
            self._fail(f"{asked.value}: {text}")
        elif asked is Ask.RESET_WORLD:
            self._enter(Stage.BEGINNING if self.stage is Stage.ASKED else self.stage, time_ns)
        elif asked is Ask.REMOVE:
            self._enter(Stage.QUIET, time_ns)
        elif asked is Ask.CREATE and self._with_controllers:
            self.ask = Ask.CONTROLLERS
            self._enter(Stage.ASKED, time_ns)
        else:
            self._await_sample(time_ns)

    def clock(self, stamp_ns: int, time_ns: int) -> None:
        """Takes the simulator's time. It may go back before the answer to the reset has come."""
        last, self._clock_ns = self._clock_ns, stamp_ns
        if last is None or stamp_ns >= last or self._respawn:
            return
        if self.stage is Stage.BEGINNING or (self.stage is Stage.ASKED and self.ask is Ask.RESET_WORLD):
            self._enter(Stage.PRESENCE, time_ns)
            self._earliest_arrival_ns = time_ns

    def joint_states(self, sample: Sample) -> None:
        """Takes a valid state of the robot."""
        self._sample_ns = sample.arrival_ns
        is_new = sample.arrival_ns > self._earliest_arrival_ns
        # What was on its way when time went back has a stamp ahead of the clock's.
        of_the_new_time = sample.stamp_ns - (self._clock_ns or 0) < QUIET_NS
        if is_new and (self.stage is Stage.SAMPLE or (self.stage is Stage.PRESENCE and of_the_new_time)):
            self._finish(sample)

    def poll(self, time_ns: int) -> None:
        """Goes on where time alone decides."""
        waited_ns = time_ns - self._entered_ns
        if self.over:
            return
        gone = self.stage is Stage.QUIET and time_ns - max(self._sample_ns, self._entered_ns) > QUIET_NS
        absent = self.stage is Stage.PRESENCE and self.ask is Ask.NOTHING and waited_ns > self._presence_ns
        if gone or absent:
            self._create(time_ns)
        elif waited_ns > self._timeout_ns:
            what = self.ask.value if self.ask is not Ask.NOTHING else self.stage.value
            self._fail(f"waited {self._timeout_ns * 1e-9:g} s for {self.stage.value} ({what})")

    def _create(self, time_ns: int) -> None:
        self.ask, self.created = Ask.CREATE, True
        self._enter(Stage.ASKED, time_ns)

    def _await_sample(self, time_ns: int) -> None:
        self._earliest_arrival_ns = time_ns
        self._enter(Stage.SAMPLE, time_ns)

    def _enter(self, stage: Stage, time_ns: int) -> None:
        if stage is not self.stage or stage is Stage.ASKED:
            self._entered_ns = time_ns
        self.stage = stage

    def _finish(self, sample: Sample) -> None:
        self.sample, self.stage, self.ask = sample, Stage.DONE, Ask.NOTHING

    def _fail(self, text: str) -> None:
        self.failure, self.stage, self.ask = text, Stage.FAILED, Ask.NOTHING
