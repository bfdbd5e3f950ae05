# SPDX-License-Identifier: Apache-2.0
"""What a joystick, a keyboard and a led arm mean to a robot."""

from pathlib import Path

import mujoco
import numpy as np
import pytest

from mbrl_core.config import ConfigurationError
from mbrl_core.mjcf import load_mjcf
from mbrl_core.robot_file import load_robot
from mbrl_policy.teleop import (
    Button,
    CommandNoise,
    CommandNoiseConfig,
    Joystick,
    JoystickConfig,
    JoystickRefused,
    KeyboardJoystick,
)
from mbrl_policy.teleop.gravity import GravityCompensation
from mbrl_policy.teleop.keyboard import HOLD_SECONDS, PRESS_SECONDS, split_keys

ROBOTS = Path(__file__).resolve().parents[3] / "config" / "robots"
REACHER = load_robot(ROBOTS / "reacher.yaml").spec
CARTPOLE = load_robot(ROBOTS / "cartpole.yaml").spec
RELEASED, HELD = [0] * 8, [0, 0, 0, 0, 1, 0, 0, 0]


def test_axes_are_scaled_to_the_limits_without_a_jump_at_the_dead_zone() -> None:
    joystick = Joystick(JoystickConfig(dead_zone=0.2), CARTPOLE)
    deflections = [-2.0, -1.0, -0.6, -0.2, 0.0, 0.1, 0.2, 0.6, 1.0]
    actions = [joystick.read([value], HELD).action[0] for value in deflections]
    np.testing.assert_allclose(actions, [-3.0, -3.0, -1.5, 0.0, 0.0, 0.0, 0.0, 1.5, 3.0], atol=1e-12)


def test_axes_are_chosen_and_turned_round() -> None:
    joystick = Joystick(JoystickConfig(axes=(3, 0), scales=(-0.5, 1.0), dead_zone=0.0), REACHER)
    np.testing.assert_allclose(joystick.read([0.25, 0.0, 0.0, 1.0], HELD).action, [-0.5, 0.25])


def test_the_dead_man_button_and_presses() -> None:
    joystick = Joystick(JoystickConfig(), CARTPOLE)
    # Down when the joystick comes: not pressed.
    assert joystick.read([0.0], [1, 0, 0, 0, 1, 0, 0, 0]).pressed == ()
    hand = joystick.read([0.0], RELEASED)
    assert not hand.held and hand.pressed == ()
    assert joystick.read([0.0], [1, 0, 0, 0, 0, 0, 0, 1]).pressed == (Button.START, Button.SUCCESS)
    assert joystick.read([0.0], [1, 0, 0, 0, 0, 0, 0, 1]).pressed == ()


@pytest.mark.parametrize(
    ("axes", "buttons", "reason", "text"),
    [
        ([], HELD, "too_small", "0 axes and 8 buttons, expected at least 1 and 5"),
        ([0.0], [0, 0], "too_small", "1 axes and 2 buttons"),
        ([float("nan")], HELD, "non_finite", "expected finite numbers"),
    ],
)
def test_what_is_no_joystick_of_this_robot_is_refused(
    axes: list[float], buttons: list[int], reason: str, text: str
) -> None:
    with pytest.raises(JoystickRefused, match=text) as caught:
        Joystick(JoystickConfig(), CARTPOLE).read(axes, buttons)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"axes": (0, 1)}, "'axes': got .*expected one of each of 1 actions"),
        ({"axes": (-1,)}, "expected indices from 0 on"),
        ({"scales": (1.5,)}, "numbers from -1 to 1"),
        ({"scales": (float("nan"),)}, "numbers from -1 to 1"),
        ({"start_button": 4}, "button 4 is used twice"),
    ],
)
def test_maps_that_do_not_fit_are_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        Joystick(JoystickConfig(**changes), CARTPOLE)  # type: ignore[arg-type]


def test_keys_of_a_terminal() -> None:
    assert split_keys("\x1b[Ds\r\x1b[A ") == ["left", "s", "enter", "up", " "]
    keyboard = KeyboardJoystick()
    assert keyboard.press("5", 0.0) and keyboard.press("left", 0.0) and not keyboard.press("x", 0.0)
    assert keyboard.state(0.1) == ([-0.5, 0.0], HELD)
    assert keyboard.press("right", 0.2)
    assert keyboard.state(0.3)[0] == [0.5, 0.0]
    # Let go: no key comes any more.
    assert keyboard.state(0.2 + HOLD_SECONDS) == ([0.0, 0.0], RELEASED)
    keyboard.press("enter", 5.0)
    assert keyboard.state(5.0)[1] == [0, 0, 0, 0, 0, 0, 0, 1]
    assert keyboard.state(5.0 + PRESS_SECONDS)[1] == RELEASED
    keyboard.press("0", 6.0)
    keyboard.press("up", 6.0)
    assert keyboard.state(6.1)[0] == [0.0, 1.0]
    keyboard.press(" ", 6.2)
    assert keyboard.state(6.3) == ([0.0, 0.0], HELD)


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.0, np.pi])
def test_gravity_compensation_holds_a_pendulum_where_it_is(angle: float) -> None:
    robot = load_robot(ROBOTS / "pendulum.yaml")
    compensation, mjcf = GravityCompensation(robot), load_mjcf(robot)
    action = compensation.action(np.array([angle, 3.0]))
    data = mujoco.MjData(mjcf.model)
    data.qpos[mjcf.positions] = angle
    data.ctrl[mjcf.actuators] = mjcf.control(action * np.array(robot.spec.action.scale))
    mujoco.mj_forward(mjcf.model, data)
    weight = abs(data.qfrc_bias[mjcf.velocities[0]])
    if weight < robot.spec.action.upper[0] * robot.spec.action.scale[0]:
        assert abs(data.qacc[mjcf.velocities[0]]) < 1e-9
    else:
        assert abs(action[0]) == robot.spec.action.upper[0]


def test_noise_has_its_share_of_each_half_range_and_is_the_same_in_all_plans_of_a_step() -> None:
    spec = CARTPOLE  # half range 3
    noise, config = CommandNoise(spec), CommandNoiseConfig(noise_std=0.1, noise_seed=4)
    zero = np.zeros((5000, 1))
    disturbed = noise.disturbed(config, zero, episode=2, first_step=0)
    # Within four standard errors of a standard deviation and of a mean.
    assert disturbed.std() == pytest.approx(0.3, rel=4.0 / np.sqrt(2.0 * 5000))
    assert abs(disturbed.mean()) < 4.0 * 0.3 / np.sqrt(5000)
    assert abs(np.corrcoef(disturbed[:-1, 0], disturbed[1:, 0])[0, 1]) < 4.0 / np.sqrt(5000)
    np.testing.assert_array_equal(noise.disturbed(config, zero[:3], 2, 7), disturbed[7:10])
    np.testing.assert_array_equal(noise.disturbed(CommandNoiseConfig(0.2, 4), zero[:9], 2, 0), 2.0 * disturbed[:9])
    for other in (noise.disturbed(config, zero[:9], 3, 0), noise.disturbed(CommandNoiseConfig(0.1, 5), zero[:9], 2, 0)):
        assert (other != disturbed[:9]).all()
    both = CommandNoise(REACHER).disturbed(config, np.zeros((2000, 2)), 2, 0)
    assert abs(np.corrcoef(both.T)[0, 1]) < 4.0 / np.sqrt(2000)


def test_noise_stays_within_the_limits_and_none_changes_nothing() -> None:
    noise = CommandNoise(CARTPOLE)
    wild = noise.disturbed(CommandNoiseConfig(noise_std=1.0), np.full((500, 1), 2.9), 1, 0)
    assert wild.max() == 3.0 and wild.min() >= -3.0
    beyond = noise.intended(np.array([[5.0], [-0.1]]))
    np.testing.assert_array_equal(beyond, [[3.0], [-0.1]])
    np.testing.assert_array_equal(noise.disturbed(CommandNoiseConfig(), beyond, 1, 0), beyond)
