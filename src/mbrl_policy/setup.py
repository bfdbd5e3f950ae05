# SPDX-License-Identifier: Apache-2.0
"""Installs mbrl_policy."""

from setuptools import find_packages, setup

package_name = "mbrl_policy"

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
    description="Exploration, policies and the recorder.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "explore_node = mbrl_policy.nodes.executables:explore_node",
            "policy_node = mbrl_policy.nodes.executables:policy_node",
            "recorder_node = mbrl_policy.nodes.executables:recorder_node",
            "teleop_node = mbrl_policy.nodes.executables:teleop_node",
            "trainer_node = mbrl_policy.nodes.executables:trainer_node",
        ]
    },
)
