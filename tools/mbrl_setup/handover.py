# SPDX-License-Identifier: Apache-2.0
"""The variables a process of the private environment runs with, worked out without sourcing any shell script."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .places import Places

ROS_RELEASE = "kilted"

# A ROS installation that the user has sourced must not show through: its libraries are of another build. Without byte
# code in the private environment, every node would compile all that it imports, some of it while the robot moves.
_FOREIGN = (
    "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "LD_LIBRARY_PATH", "PYTHONPATH",
    "PYTHONHOME", "ROS_DISTRO", "ROS_VERSION", "ROS_PYTHON_VERSION", "RMW_IMPLEMENTATION", "GZ_CONFIG_PATH",
    "CMAKE_GENERATOR", "PKG_CONFIG_PATH", "PYTHONDONTWRITEBYTECODE",
)  # fmt: skip

_LIBRARY_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")


def variables(places: Places, outside: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment variables for everything that runs after set-up.

    Args:
        outside: the variables to start from; default: those of this process.
    """
    result = {name: value for name, value in (outside or os.environ).items() if name not in _FOREIGN}
    site_packages = places.site_packages
    prefixes = sorted(folder for folder in places.install.glob("*") if (folder / "share").is_dir())
    python_path, libraries = [], []
    for prefix in prefixes:
        installed = prefix / "lib" / site_packages.parent.name / "site-packages"
        # An editable install is only a link file there, which is not followed from PYTHONPATH.
        editable = places.build / prefix.name
        python_path += [str(folder) for folder in (editable, installed) if folder.is_dir()]
        if (prefix / "lib").is_dir():
            libraries.append(str(prefix / "lib"))
    ament_prefixes = os.pathsep.join([*map(str, prefixes), str(places.environment)])
    wheel_libraries = sorted(str(folder) for folder in site_packages.glob("ros_*.libs"))
    result |= {
        "MBRL_ROOT": str(places.root),
        "VIRTUAL_ENV": str(places.environment),
        "PATH": os.pathsep.join([str(places.environment / "bin"), result.get("PATH", os.defpath)]),
        "AMENT_PREFIX_PATH": ament_prefixes,
        "CMAKE_PREFIX_PATH": ament_prefixes,
        "PYTHONPATH": os.pathsep.join([*python_path, str(site_packages)]),
        "LD_LIBRARY_PATH": os.pathsep.join([*libraries, str(places.environment / "lib"), *wheel_libraries]),
        # The libraries above being on the path, the wheels need not start Python a second time.
        "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
        "ROS_DISTRO": ROS_RELEASE,
        "ROS_VERSION": "2",
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
    }
    _set_middleware(result, places.root / "config" / "dds")
    result.setdefault("MUJOCO_GL", "egl" if _has_egl() else "disable")
    # Nodes are processes of one thread each; thread pools in each of them would fight over the cores.
    result.setdefault("OMP_NUM_THREADS", "1")
    return result


def _set_middleware(result: dict[str, str], profiles: Path) -> None:
    """Who is heard, this machine alone unless something else is asked for, and by which profile of the middleware."""
    asked = result.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if "FASTDDS_DEFAULT_PROFILES_FILE" in result:
        return
    is_local = asked == "LOCALHOST" and not result.get("ROS_STATIC_PEERS")
    if is_local:
        # With LOCALHOST the middleware would use shared memory; this profile means the same without.
        result["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SYSTEM_DEFAULT"
    result["FASTDDS_DEFAULT_PROFILES_FILE"] = str(profiles / ("fastdds_local.xml" if is_local else "fastdds.xml"))


def _has_egl() -> bool:
    """Whether pictures can be drawn without a screen. MuJoCo does not even load when told to and it cannot."""
    return any(Path(folder, "libEGL.so.1").exists() for folder in _LIBRARY_FOLDERS)
