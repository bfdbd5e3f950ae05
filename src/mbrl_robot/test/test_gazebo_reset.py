# SPDX-License-Identifier: Apache-2.0
"""The stages of a reset in Gazebo, by answers, stamps and time alone."""

import numpy as np

from mbrl_robot.gazebo_reset import PRESENCE_NS, QUIET_NS, Ask, ResetSequence, Stage
from mbrl_robot.state_estimation import Sample

MS = 1_000_000
TIMEOUT = 5_000 * MS


def sample(stamp: int, arrival: int, value: float = 0.0) -> Sample:
    return Sample(np.array([value, 0.0]), stamp, arrival)


def reset_of_the_world() -> ResetSequence:
    """At steady time 10 ms, simulated time is 3 s and Gazebo has been asked."""
    sequence = ResetSequence(respawn=False, with_controllers=False, timeout_ns=TIMEOUT, time_ns=0)
    assert sequence.ask is Ask.RESET_WORLD
    sequence.clock(3000 * MS, 10 * MS)
    return sequence


def test_a_robot_of_the_world_is_there_again() -> None:
    sequence = reset_of_the_world()
    sequence.answered("", 20 * MS)
    assert sequence.stage is Stage.BEGINNING and sequence.ask is Ask.NOTHING
    # What was on its way does not count.
    sequence.joint_states(sample(3002 * MS, 25 * MS, 9.0))
    sequence.clock(2 * MS, 30 * MS)
    sequence.joint_states(sample(3004 * MS, 31 * MS, 9.0))
    assert not sequence.over
    sequence.joint_states(sample(4 * MS, 32 * MS))
    assert sequence.stage is Stage.DONE and sequence.sample is not None and sequence.sample.stamp_ns == 4 * MS


def test_time_may_go_back_before_the_answer_comes() -> None:
    sequence = reset_of_the_world()
    sequence.clock(2 * MS, 15 * MS)
    sequence.answered("", 20 * MS)
    assert sequence.stage is Stage.PRESENCE
    sequence.joint_states(sample(4 * MS, 25 * MS))
    assert sequence.stage is Stage.DONE


def test_a_robot_that_was_spawned_is_spawned_anew() -> None:
    sequence = reset_of_the_world()
    sequence.answered("", 20 * MS)
    sequence.clock(2 * MS, 30 * MS)
    sequence.poll(30 * MS + PRESENCE_NS - MS)
    assert sequence.ask is Ask.NOTHING
    later = 31 * MS + PRESENCE_NS
    sequence.poll(later)
    assert sequence.ask is Ask.CREATE
    sequence.answered("", later + 10 * MS)
    sequence.joint_states(sample(1000 * MS, later + 20 * MS))
    assert sequence.stage is Stage.DONE


def test_under_ros2_control_the_robot_alone_is_spawned_anew_and_then_its_controllers() -> None:
    sequence = ResetSequence(respawn=True, with_controllers=True, timeout_ns=TIMEOUT, time_ns=0)
    assert sequence.ask is Ask.REMOVE
    sequence.answered("", 10 * MS)
    # The answer says that the request is queued: joint states go on for a while.
    sequence.joint_states(sample(3000 * MS, 50 * MS))
    sequence.poll(QUIET_NS + 40 * MS)
    assert sequence.stage is Stage.QUIET
    sequence.poll(QUIET_NS + 51 * MS)
    assert sequence.ask is Ask.CREATE
    sequence.answered("", QUIET_NS + 500 * MS)
    assert sequence.ask is Ask.CONTROLLERS
    sequence.joint_states(sample(3900 * MS, QUIET_NS + 600 * MS))
    assert not sequence.over, "as long as nobody commands it does not begin"
    sequence.answered("", QUIET_NS + 700 * MS)
    sequence.joint_states(sample(4000 * MS, QUIET_NS + 710 * MS))
    assert sequence.stage is Stage.DONE and sequence.sample is not None and sequence.sample.stamp_ns == 4000 * MS


def test_what_goes_wrong_is_said() -> None:
    sequence = reset_of_the_world()
    sequence.answered("Gazebo says no", 20 * MS)
    assert sequence.stage is Stage.FAILED and sequence.failure == "reset the world: Gazebo says no"
    sequence.answered("", 30 * MS)
    assert sequence.stage is Stage.FAILED and sequence.sample is None


def test_every_stage_has_a_time_limit() -> None:
    sequence = reset_of_the_world()
    sequence.poll(TIMEOUT)
    assert not sequence.over
    sequence.poll(TIMEOUT + MS)
    assert "waited 5 s for the answer (reset the world)" in sequence.failure
    sequence = reset_of_the_world()
    sequence.answered("", 20 * MS)
    sequence.clock(3002 * MS, 30 * MS)
    sequence.poll(TIMEOUT + 21 * MS)
    assert "time to go back" in sequence.failure
