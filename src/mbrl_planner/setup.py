# SPDX-License-Identifier: Apache-2.0
"""Installs mbrl_planner."""

from setuptools import find_packages, setup

package_name = "mbrl_planner"

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
    description="Planners that optimise action sequences through a dynamics model.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "planner_node = mbrl_planner.nodes.executables:planner_node",
        ]
    },
)
