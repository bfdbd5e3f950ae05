# SPDX-License-Identifier: Apache-2.0
"""The prefix of stand_in_packages with programs that act like ros2_control, so that launch files run as they are."""

import sys
from pathlib import Path

import stand_in_packages

# Module of this package that each program runs.
MODULES = {
    "ros2_control_node": "manager_node",
    "spawner": "spawner",
    "robot_state_publisher": "state_publisher",
    "xacro": "xacro",
}
# Where the manager finds a robot file with the MJCF that moves.
PHYSICS = "STAND_IN_PHYSICS"


def make_prefix(prefix: Path) -> dict[str, str]:
    """Writes the prefix; returns the environment variables by which it is found."""
    tests = Path(__file__).resolve().parents[1]
    return stand_in_packages.make_prefix(
        prefix,
        {
            name: f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(tests)!r})\n"
            f"from ros2_control_stand_in.{module} import main\nsys.exit(main())\n"
            for name, module in MODULES.items()
        },
    )


if __name__ == "__main__":
    for key, value in make_prefix(Path(sys.argv[1]).resolve()).items():
        print(f"export {key}='{value}'")
