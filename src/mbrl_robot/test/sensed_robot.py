# SPDX-License-Identifier: Apache-2.0
"""A cart with a hanging pole, an inertial unit and odometry at the pole's tip, as files in a folder."""

from pathlib import Path

MJCF = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body pos="0 0 1">
      <joint name="slide" type="slide" axis="1 0 0" damping="0.1"/>
      <geom size="0.1" mass="1" contype="0" conaffinity="0"/>
      <body>
        <joint name="turn" type="hinge" axis="0 1 0" damping="0.01"/>
        <geom type="capsule" fromto="0 0 0 0 0 -0.5" size="0.03" mass="0.3" contype="0" conaffinity="0"/>
        <site name="tip" pos="0 0 -0.5"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slide" ctrllimited="true" ctrlrange="-5 5"/></actuator>
  <sensor>
    <framequat objtype="site" objname="tip"/>
    <gyro site="tip"/>
    <accelerometer site="tip"/>
    <framepos objtype="site" objname="tip"/>
    <framelinvel objtype="site" objname="tip"/>
    <frameangvel objtype="site" objname="tip"/>
  </sensor>
</mujoco>
"""
ROBOT = """
name: sensed
mjcf: sensed.xml
control: {period: 0.05, max_open_loop_steps: 3}
joints:
  - {name: slide, kind: linear, position_limits: [-2.0, 2.0]}
  - {name: turn, kind: angular}
actions:
  - {joint: slide, limits: [-1.0, 1.0], scale: 5.0}
safe_action: {kind: damping, gains: [0.2]}
simulation: {steps_per_control: 5, command_timeout: 0.3}
estimation:
  observe: [positions]
  history: 2
  velocity: {source: positions, window: 0.02}
  sensors:
    - {name: tip, kind: imu, topic: tip/imu, site: tip, entries: [pitch, angular_velocity_y]}
    - {name: base, kind: odometry, topic: tip/odom, site: tip, entries: [x, z, linear_velocity_x, linear_velocity_z]}
"""
ENTRIES = ("pitch", "angular_velocity_y", "x", "z", "linear_velocity_x", "linear_velocity_z")


def sensed_robot(folder: Path) -> Path:
    """Writes MJCF and robot file into `folder`; returns the robot file."""
    (folder / "sensed.xml").write_text(MJCF)
    path = folder / "sensed.yaml"
    path.write_text(ROBOT)
    return path
