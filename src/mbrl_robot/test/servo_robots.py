# SPDX-License-Identifier: Apache-2.0
"""A slide and a hinge whose actuators are drives, as files in a folder."""

from pathlib import Path

MJCF = """
<mujoco>
  <compiler angle="radian" autolimits="true"/>
  <option gravity="0 0 0" integrator="implicitfast" timestep="0.005"/>
  <worldbody>
    <body>
      <joint name="rail" type="slide" axis="1 0 0"/>
      <geom size="0.1" mass="2" contype="0" conaffinity="0"/>
    </body>
    <body pos="0 1 0">
      <joint name="turn" type="hinge" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0 0.3" size="0.05" mass="1" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator>{actuators}</actuator>
</mujoco>
"""
ACTUATORS = {
    "effort": '<motor joint="rail" gear="10"/><motor joint="turn"/>',
    "velocity": '<velocity joint="rail" kv="300"/><velocity joint="turn" kv="20" gear="4"/>',
    "position": '<position joint="rail" kp="800" kv="80"/><position joint="turn" kp="20" kv="1" gear="4"/>',
}
ROBOT = """
name: servo
mjcf: servo.xml
control: {{period: 0.05, max_open_loop_steps: 3}}
joints:
  - {{name: turn, kind: angular}}
  - {{name: rail, kind: linear}}
actions:
  - {{joint: rail, interface: {interface}, limits: [-1.0, 1.0], scale: {scale}{rest}}}
  - {{joint: turn, interface: {interface}, limits: [-1.0, 1.0], scale: 2.0}}
{more}
start:
  position: {{mean: [0.4, -0.3]}}
simulation: {{steps_per_control: 10, command_timeout: 0.3}}
"""


def servo_robot(
    folder: Path, interface: str, actuators: str | None = None, more: str = "", scale: float = 0.5, slew: float = 0.0
) -> Path:
    """Writes MJCF and robot file of an `interface` into `folder`; returns the robot file. `more`: further sections."""
    (folder / "servo.xml").write_text(MJCF.format(actuators=actuators or ACTUATORS[interface]))
    path = folder / "servo.yaml"
    rest = f", slew: {slew}" if slew else ""
    path.write_text(ROBOT.format(interface=interface, more=more, scale=scale, rest=rest))
    return path
