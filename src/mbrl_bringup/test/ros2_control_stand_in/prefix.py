# SPDX-License-Identifier: Apache-2.0
"""An ament prefix with the packages' names and executables, so that launch files run as they are."""

import os
import sys
from pathlib import Path

EXECUTABLES = {
    "controller_manager": {"ros2_control_node": "manager_node", "spawner": "spawner"},
    "robot_state_publisher": {"robot_state_publisher": "state_publisher"},
    "joint_state_broadcaster": {},
    "forward_command_controller": {},
    "xacro": {},
}
# Where the manager finds a robot file with the MJCF that moves.
PHYSICS = "STAND_IN_PHYSICS"


def make_prefix(prefix: Path) -> dict[str, str]:
    """Writes the prefix; returns the environment variables by which it is found."""
    for package, programs in EXECUTABLES.items():
        marker = prefix / "share/ament_index/resource_index/packages" / package
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        (prefix / "share" / package).mkdir(parents=True)
        for name, module in programs.items():
            _write(prefix / "lib" / package / name, module)
    _write(prefix / "bin" / "xacro", "xacro")
    return {
        "AMENT_PREFIX_PATH": f"{prefix}{os.pathsep}{os.environ.get('AMENT_PREFIX_PATH', '')}",
        "PATH": f"{prefix / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def _write(program: Path, module: str) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    tests = Path(__file__).resolve().parents[1]
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(tests)!r})\n"
        f"from ros2_control_stand_in.{module} import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)


if __name__ == "__main__":
    for key, value in make_prefix(Path(sys.argv[1]).resolve()).items():
        print(f"export {key}='{value}'")
