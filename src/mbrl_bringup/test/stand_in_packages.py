# SPDX-License-Identifier: Apache-2.0
"""An ament prefix with stand-ins of packages that cannot be had from PyPI: launch files expand without them.

Their programs do nothing, but for xacro, which prints what it was asked: so that shows in an expansion. Tests that run
nodes put programs of their own in their place.
"""

import os
from collections.abc import Mapping
from pathlib import Path

PROGRAMS = {
    "ros_gz_sim": ("gzserver", "create"),
    "ros_gz_bridge": ("parameter_bridge",),
    "ros_gz_interfaces": (),
    "gz_ros2_control": (),
    "controller_manager": ("ros2_control_node", "spawner"),
    "joint_state_broadcaster": (),
    "forward_command_controller": (),
    "robot_state_publisher": ("robot_state_publisher",),
    "rviz2": ("rviz2",),
    "xacro": ("xacro",),
}
XACRO = '#!/bin/sh\nprintf "xacro"; for word in "$@"; do printf " %s" "$word"; done\n'


def make_prefix(prefix: Path, programs: Mapping[str, str] | None = None) -> dict[str, str]:
    """Writes the prefix, and returns the environment variables that add it.

    `programs` has the text of those, by name, that shall do something.
    """
    given = {"xacro": XACRO, **(programs or {})}
    for package, names in PROGRAMS.items():
        marker = prefix / "share/ament_index/resource_index/packages" / package
        for folder in (marker.parent, prefix / "share" / package, prefix / "lib" / package, prefix / "bin"):
            folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
        for name in names:
            program = prefix / "lib" / package / name
            program.write_text(given.get(name, "#!/bin/sh\n"), encoding="utf-8")
            program.chmod(0o755)
    (prefix / "bin/xacro").symlink_to(prefix / "lib/xacro/xacro")
    return {
        "AMENT_PREFIX_PATH": f"{prefix}{os.pathsep}{os.environ.get('AMENT_PREFIX_PATH', '')}",
        "PATH": f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
