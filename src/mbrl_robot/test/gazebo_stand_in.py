#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for Gazebo in tests: MuJoCo behind the topics that Gazebo has for a model with JointStatePublisher and
ApplyJointForce, under Gazebo's own names.

As in Gazebo, efforts in joint states are zero, a force acts until another one comes, joint states are published while
paused as well, with the same stamp, and at a reset time goes back to 0, and a model that was spawned is gone.
"""

import array
import time
from functools import partial

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, Float64
from std_srvs.srv import SetBool, Trigger

from mbrl_core.robot_file import load_robot
from mbrl_robot.simulation import MujocoSimulation
from mbrl_ros.steady import steady_timer

# Further behind than this, the simulator is slower than asked for, as Gazebo is; it does not catch up.
LONGEST_LAG = 0.05


class GazeboStandIn(Node):
    """Parameters: robot_file, world, step (s, simulated), real_time_factor; `spawned`: the robot is not part of the
    world, and there is none before it is spawned; `transport`: what Gazebo's own topics begin with, as theirs is a
    transport of its own.
    """

    def __init__(self) -> None:
        super().__init__("gazebo_stand_in")
        self.robot = load_robot(self.declare_parameter("robot_file", "").value)
        world = self.declare_parameter("world", "mbrl").value
        self.declare_parameter("step", 0.01)
        self.declare_parameter("real_time_factor", 1.0)
        self.simulation = MujocoSimulation(self.robot)
        # Joints of a model that was spawned or reset are at zero, whatever the robot file says.
        self.start = np.zeros(self.robot.spec.state.size)
        self.simulation.reset(self.start)
        model = self.robot.spec.name
        transport = self.declare_parameter("transport", "").value
        self.spawned = self.declare_parameter("spawned", False).value
        self.present = not self.spawned
        self.forces = dict.fromkeys(self.robot.spec.action.names, 0.0)
        self.paused = False
        self.time = 0.0
        self.wall = time.monotonic()
        self.states = self.create_publisher(JointState, f"{transport}/world/{world}/model/{model}/joint_state", 10)
        self.clock = self.create_publisher(Clock, f"{transport}/clock", 10)
        for joint in self.forces:
            topic = f"{transport}/model/{model}/joint/{joint}/cmd_force"
            self.create_subscription(Float64, topic, partial(self.take_force, joint), 10)
        self.create_service(Trigger, "~/reset", self.reset)
        self.create_service(SetBool, "~/pause", self.pause)
        self.create_service(Trigger, "~/create", self.create)
        self.create_service(Trigger, "~/remove", self.remove)
        self.create_subscription(Empty, "~/jump", self.jump, 10)
        steady_timer(self, 0.004, self.tick)

    def take_force(self, joint: str, message: Float64) -> None:
        self.forces[joint] = message.data
        self.simulation.set_command(np.array(list(self.forces.values())))

    def reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.simulation.reset(self.start)
        # ApplyJointForce remembers its last force over a reset.
        self.simulation.set_command(np.array(list(self.forces.values())))
        self.time, self.wall = 0.0, time.monotonic()
        self.present = not self.spawned
        response.success = True
        return response

    def create(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = not self.present
        if not self.present:
            self.simulation.reset(self.start)
            self.forces = dict.fromkeys(self.forces, 0.0)
        self.present = True
        return response

    def remove(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, self.present = self.present, False
        return response

    def pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.paused, self.wall = request.data, time.monotonic()
        response.success = True
        return response

    def jump(self, message: Empty) -> None:
        """Steps are simulated that nobody is told of."""
        self.simulation.advance_time(0.3)
        self.time += 0.3

    def tick(self) -> None:
        now = time.monotonic()
        step = self.get_parameter("step").value
        if self.paused:
            self.wall = now
            self.publish()
            return
        pace = step / self.get_parameter("real_time_factor").value
        self.wall = max(self.wall, now - LONGEST_LAG)
        while self.wall + pace <= now:
            self.wall += pace
            self.simulation.advance_time(step)
            self.time += step
            self.publish()

    def publish(self) -> None:
        stamp = Time(nanoseconds=round(self.time * 1e9)).to_msg()
        names = [joint.name for joint in self.robot.joints]
        state = self.simulation.state
        message = JointState(name=names, effort=[0.0] * len(names))
        message.header.stamp = stamp
        message.position = array.array("d", state[: len(names)].tobytes())
        message.velocity = array.array("d", state[len(names) :].tobytes())
        if self.present:
            self.states.publish(message)
        self.clock.publish(Clock(clock=stamp))


def main() -> None:
    rclpy.init()
    node = GazeboStandIn()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()


if __name__ == "__main__":
    main()
