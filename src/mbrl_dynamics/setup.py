# SPDX-License-Identifier: Apache-2.0
"""Installs mbrl_dynamics."""

from setuptools import find_packages, setup

package_name = "mbrl_dynamics"

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
    description="Learned dynamics models, the rollout engine and the online learner.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "learner_node = mbrl_dynamics.nodes.executables:learner_node",
        ]
    },
)
