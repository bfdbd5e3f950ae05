# SPDX-License-Identifier: Apache-2.0
"""Whether a robot file asks for more than the description of the robot permits: joints, limits, interfaces."""

import math
from xml.etree import ElementTree

from mbrl_core.robot_file import Joint, Robot

# URDF asks for a largest speed beside an effort. MJCF has no such limit, so this is one that no robot reaches.
OUT_OF_REACH = 10000.0  # m/s or rad/s
KINDS = {"prismatic": "linear", "revolute": "angular", "continuous": "angular"}
# Of a limit's size: what is lost where numbers are written with six digits.
TOLERANCE = 1e-5


def first_disagreement(robot: Robot, urdf: str) -> str:
    """The first thing in which a URDF (text) does not permit what the robot file asks for, in words; empty where none.

    Per joint: it is there, linear or angular as in the robot file, its position limits contain those of the robot file,
    and its speed limit is at least that of the robot file, which has to have one where the URDF has. Per action: its
    whole range in SI units lies within the URDF's effort, velocity or position limit, and within `min` and `max` of the
    command interface of `<ros2_control>`, which has to be there where the URDF has that element.
    """
    try:
        root = ElementTree.fromstring(urdf)
    except ElementTree.ParseError as error:
        return f"robot_description is no XML: {error}"
    joints = {str(element.get("name")): element for element in root.findall("joint")}
    try:
        for joint in robot.joints:
            text = _joint(joint, joints)
            if text:
                return text
        for index in range(robot.spec.action.size):
            text = _action(robot, index, joints) or _command_interface(robot, index, root)
            if text:
                return text
    except ValueError as error:
        return f"robot_description: {error}"
    return ""


def _joint(joint: Joint, joints: dict[str, ElementTree.Element]) -> str:
    element = joints.get(joint.name)
    if element is None:
        return f"joint {joint.name!r} is not in robot_description; joints there: {', '.join(joints) or 'none'}"
    kind = KINDS.get(str(element.get("type")))
    if kind != joint.kind:
        return f"joint {joint.name!r}: {element.get('type')!r} in robot_description, {joint.kind} in the robot file"
    permitted, asked = _position_limits(element), joint.position_limits
    if not _contains(permitted, asked):
        return (
            f"joint {joint.name!r}, position limits: {_range(permitted)} in robot_description, {_range(asked)} in the"
            " robot file, expected the latter within the former"
        )
    fastest = _number(element, "velocity", OUT_OF_REACH)
    if fastest < OUT_OF_REACH and not _contains((0.0, fastest), (0.0, joint.velocity_limit)):
        return (
            f"joint {joint.name!r}, velocity limit: {fastest:g} in robot_description, {joint.velocity_limit:g} in the"
            " robot file, expected at most the former"
        )
    return ""


def _action(robot: Robot, index: int, joints: dict[str, ElementTree.Element]) -> str:
    action = robot.spec.action
    name, interface = action.names[index], action.interfaces[index]
    element = joints[name]
    if interface == "position":
        permitted = _position_limits(element)
    else:
        largest = _number(element, interface, math.inf)
        permitted = (-largest, largest)
    asked = command_range(robot, index)
    if not _contains(permitted, asked):
        return (
            f"action {name!r}, {interface} limit: {_range(permitted)} in robot_description, {_range(asked)} in the"
            " robot file (limits times scale), expected the latter within the former"
        )
    return ""


def _command_interface(robot: Robot, index: int, root: ElementTree.Element) -> str:
    systems = root.findall("ros2_control")
    if not systems:
        return ""
    action = robot.spec.action
    name, interface = action.names[index], action.interfaces[index]
    found = [
        element
        for system in systems
        for joint in system.findall("joint")
        if joint.get("name") == name
        for element in joint.findall("command_interface")
    ]
    of_kind = [element for element in found if element.get("name") == interface]
    if not of_kind:
        there = ", ".join(str(element.get("name")) for element in found) or "none"
        return f"action {name!r}: ros2_control has no command interface {interface!r} for it; there are {there}"
    bounds = {str(item.get("name")): float(item.text or "nan") for item in of_kind[0].findall("param")
              if item.get("name") in ("min", "max")}  # fmt: skip
    permitted = (bounds.get("min", -math.inf), bounds.get("max", math.inf))
    asked = command_range(robot, index)
    if not _contains(permitted, asked):
        return (
            f"action {name!r}, min and max of its command interface: {_range(permitted)} in robot_description,"
            f" {_range(asked)} in the robot file (limits times scale), expected the latter within the former"
        )
    return ""


def command_range(robot: Robot, index: int) -> tuple[float, float]:
    """Smallest and largest SI command of an action."""
    action = robot.spec.action
    ends = sorted((action.lower[index] * action.scale[index], action.upper[index] * action.scale[index]))
    return ends[0], ends[1]


def _position_limits(element: ElementTree.Element) -> tuple[float, float]:
    if element.get("type") == "continuous" or element.find("limit") is None:
        return -math.inf, math.inf
    return _number(element, "lower", 0.0), _number(element, "upper", 0.0)


def _number(element: ElementTree.Element, name: str, default: float) -> float:
    limit = element.find("limit")
    text = None if limit is None else limit.get(name)
    return default if text is None else float(text)


def _contains(permitted: tuple[float, float], asked: tuple[float, float]) -> bool:
    """NaN contains nothing."""
    slack = TOLERANCE * max((abs(value) for value in permitted if math.isfinite(value)), default=0.0)
    return permitted[0] - slack <= asked[0] and asked[1] <= permitted[1] + slack


def _range(limits: tuple[float, float]) -> str:
    return "none" if limits == (-math.inf, math.inf) else f"{limits[0]:g} to {limits[1]:g}"
