# SPDX-License-Identifier: Apache-2.0
"""Installs mbrl_robot."""

from setuptools import find_packages, setup

package_name = "mbrl_robot"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + package_name]),
        ("share/" + package_name, ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="mbrl maintainers",
    maintainer_email="maintainers@mbrl.invalid",
    description="The robot's control clock and its backends.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "mujoco_node = mbrl_robot.nodes.executables:mujoco_node",
            "dart_node = mbrl_robot.nodes.executables:dart_node",
            "robot_node = mbrl_robot.nodes.executables:robot_node",
            "watchdog_node = mbrl_robot.nodes.executables:watchdog_node",
            "hardware_node = mbrl_robot.nodes.executables:hardware_node",
            "faulty_backend_node = mbrl_robot.nodes.executables:faulty_backend_node",
            "gazebo_reset_node = mbrl_robot.nodes.executables:gazebo_reset_node",
            "markers_node = mbrl_robot.nodes.executables:markers_node",
            "gazebo_gui = mbrl_robot.gazebo_gui:main",
            "command_splitter_node = mbrl_robot.nodes.executables:command_splitter_node",
        ]
    },
)
