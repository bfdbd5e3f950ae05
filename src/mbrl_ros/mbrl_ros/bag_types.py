# SPDX-License-Identifier: Apache-2.0
"""Message types as bags need them: those of ROS 2 and of this suite."""

from functools import cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from mbrl_msgs.msg import TimeStep

OWN_PACKAGE = "mbrl_msgs"


@cache
def make_typestore() -> Typestore:
    """Types of ROS 2 and of this suite, the latter from the installed .msg files."""
    # The .msg files lie in the package's share folder; looked up here so that other bags need no ament index.
    from ament_index_python.packages import get_package_share_directory

    typestore = get_typestore(Stores.ROS2_JAZZY)
    folder = Path(get_package_share_directory(OWN_PACKAGE)) / "msg"
    types = {}
    for path in sorted(folder.glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"{OWN_PACKAGE}/msg/{path.stem}"))
    if f"{OWN_PACKAGE}/msg/{TimeStep.__name__}" not in types:
        raise FileNotFoundError(f"{folder}: no message definitions of {OWN_PACKAGE}")
    typestore.register(types)
    return typestore
