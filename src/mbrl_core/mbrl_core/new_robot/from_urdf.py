# SPDX-License-Identifier: Apache-2.0
"""Makes an MJCF of a URDF: by MuJoCo's reader, with what URDF says elsewhere or not at all (motors, integrator)."""

import importlib.util
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from mbrl_core.new_robot.mjcf_writing import mjcf_text
from mbrl_core.new_robot.source import NewRobotError

TIMESTEP = 0.002  # s
MESHES = (".stl", ".obj", ".msh")  # what MuJoCo reads
SERVO_TIME = 0.05  # s, time constant of a velocity or position drive that the URDF knows nothing of
OPEN = (-math.inf, math.inf)
INTERFACES = ("effort", "velocity", "position")  # which of several a joint is driven by: the first that it has


@dataclass(frozen=True)
class MadeMjcf:
    """`path` of the MJCF, velocity limits by joint (m/s, rad/s), what a person should know about it, and the URDF with
    fixed joints where they are held."""

    path: Path
    speeds: dict[str, float]
    remarks: list[str]
    urdf_text: str


@dataclass(frozen=True)
class Drive:
    """How a joint is driven; `effort` is its limit (N or N m), `bounds` those of the command, infinite where open."""

    interface: str
    effort: float
    bounds: tuple[float, float]


def mjcf_of_urdf(urdf: Path, target: Path, name: str, interface: str = "", fix: Sequence[str] = ()) -> MadeMjcf:
    """Writes `target`. Its base is fixed to the world, nothing collides, joint limits, damping and friction are kept.

    Joints are driven as <ros2_control> or <transmission> say, or by `interface` all of them; without either by an
    effort wherever they have a limit of it. Joints of `fix`, those that mimic others, and those with a motor that
    nobody commands, are held at 0. Meshes that MuJoCo cannot read are left out.

    Raises FileNotFoundError; NewRobotError that names the element at fault.
    """
    root = _parse(urdf)
    remarks: list[str] = []
    _meshes(root, urdf, remarks)
    drives = _drives(root, urdf, interface, fix, remarks)
    spec = _spec(root, urdf, remarks)
    spec.modelname = name
    spec.compiler.balanceinertia = True
    # What links weigh is what the URDF says, never what their shapes would.
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
    known = {joint.name: joint for joint in spec.joints}
    inertias = _inertias(spec, urdf)
    for joint, drive in drives.items():
        if joint in known:
            _add_actuator(spec, known[joint], drive, inertias[joint], _speeds(root).get(joint, math.inf))
    model = _compile(spec, urdf)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(mjcf_text(spec, model), encoding="utf-8")
    return MadeMjcf(target, _speeds(root), remarks, ElementTree.tostring(root, encoding="unicode"))


def _parse(urdf: Path) -> ElementTree.Element:
    if not urdf.is_file():
        raise FileNotFoundError(f"{urdf} does not exist")
    text = urdf.read_text(encoding="utf-8")
    if urdf.suffix == ".xacro" or "<xacro:" in text:
        text = _expanded(urdf)
    try:
        # MuJoCo, as XML itself, takes no encoding declaration in a text that is decoded already.
        root = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except ElementTree.ParseError as error:
        raise NewRobotError(f"{urdf}: {error}") from None
    if root.tag != "robot":
        raise NewRobotError(f"{urdf}: got <{root.tag}>, expected <robot>, the root of a URDF")
    return root


def _expanded(urdf: Path) -> str:
    if importlib.util.find_spec("xacro") is None:
        raise NewRobotError(
            f"{urdf} is xacro: expand it with `xacro {urdf} > {urdf.stem.removesuffix('.urdf')}.urdf` and pass that"
        )
    import xacro  # type: ignore[import-untyped]

    try:
        return str(xacro.process_file(str(urdf)).toxml())
    except Exception as error:
        raise NewRobotError(f"{urdf}: xacro: {error}") from None


def _meshes(root: ElementTree.Element, urdf: Path, remarks: list[str]) -> None:
    """Replaces references to meshes by paths; takes shapes with meshes out that are not there or not readable."""
    missing: list[str] = []
    for link in root.iter("link"):
        visible = False
        for tag in ("visual", "collision"):
            for shape in link.findall(tag):
                mesh = shape.find("geometry/mesh")
                if mesh is None:
                    visible = visible or tag == "visual"
                    continue
                reference = mesh.get("filename", "")
                found = _resolve(reference, urdf)
                if found is None or found.suffix.lower() not in MESHES or (tag == "collision" and visible):
                    link.remove(shape)
                    if tag == "visual":
                        missing.append(reference)
                else:
                    mesh.set("filename", str(found))
                    visible = True
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        remarks.append(f"no mesh there, or none in STL or OBJ, left out: {missing[0]}{more}; only pictures need them")


def _resolve(reference: str, urdf: Path) -> Path | None:
    """The file that a mesh refers to, by the ament index, beside the URDF, or in a folder above it."""
    path = re.sub(r"^(package|file|model)://", "", reference)
    if reference.startswith("package://"):
        package, _, rest = path.partition("/")
        candidates = [folder / rest for folder in urdf.resolve().parents if folder.name == package]
        candidates += [folder / path for folder in urdf.resolve().parents]
        try:
            from ament_index_python.packages import get_package_share_directory

            candidates.append(Path(get_package_share_directory(package)) / rest)
        except (ImportError, LookupError, ValueError):
            pass
    else:
        candidates = [Path(path), urdf.resolve().parent / path]
    return next((file for file in candidates if file.is_file()), None)


def _drives(
    root: ElementTree.Element, urdf: Path, wanted: str, fix: Sequence[str], remarks: list[str]
) -> dict[str, Drive]:
    movable = {
        joint.get("name", ""): joint
        for joint in root.findall("joint")
        if joint.get("type") in ("revolute", "continuous", "prismatic")
    }
    for name in fix:
        if name not in movable:
            raise NewRobotError(
                f"fix: no joint {name!r} in {urdf}; joints there: {', '.join(movable) or 'none that move'}"
            )
    limits = {name: _number(joint.find("limit"), "effort") for name, joint in movable.items()}
    offered = _offered(root) or {name: {"effort": OPEN} for name, effort in limits.items() if effort > 0.0}
    drives = {}
    for name, joint in movable.items():
        interface = next((interface for interface in INTERFACES if interface in offered.get(name, {})), None)
        mimics = joint.find("mimic") is not None
        if name in fix or mimics or (interface is None and limits[name] > 0.0):
            joint.set("type", "fixed")
            why = "it mimics another" if mimics else "it has a motor, but no command interface or transmission"
            if name not in fix:
                remarks.append(f"joint {name!r} is held at 0: {why}")
        elif interface is not None:
            bounds = offered[name][interface] if wanted in ("", interface) else OPEN
            drives[name] = Drive(wanted or interface, limits[name], bounds)
    if not drives:
        raise NewRobotError(
            f"{urdf}: no joint is driven: expected <limit effort=...> above 0, or a command interface in"
            f" <ros2_control>; joints there: {', '.join(limits) or 'none that move'}"
        )
    return drives


def _offered(root: ElementTree.Element) -> dict[str, dict[str, tuple[float, float]]]:
    """Command interfaces by joint, with the ends of their range."""
    offered: dict[str, dict[str, tuple[float, float]]] = {}
    for joint in root.findall("ros2_control/joint"):
        for command in joint.findall("command_interface"):
            values = {item.get("name"): item.text for item in command.findall("param")}
            ends = (float(values.get("min") or -math.inf), float(values.get("max") or math.inf))
            offered.setdefault(joint.get("name", ""), {})[command.get("name", "")] = ends
    for transmission in root.findall("transmission"):
        text = " ".join(item.text or "" for item in transmission.iter("hardwareInterface")).lower()
        for joint in transmission.findall("joint"):
            for interface in INTERFACES:
                if interface in text:
                    offered.setdefault(joint.get("name", ""), {}).setdefault(interface, OPEN)
    return offered


def _number(element: ElementTree.Element | None, attribute: str) -> float:
    try:
        return 0.0 if element is None else float(element.get(attribute, "0"))
    except ValueError:
        raise NewRobotError(f"<{element.tag if element is not None else ''} {attribute}>: expected a number") from None


def _speeds(root: ElementTree.Element) -> dict[str, float]:
    speeds = {joint.get("name", ""): _number(joint.find("limit"), "velocity") for joint in root.findall("joint")}
    return {name: speed for name, speed in speeds.items() if 0.0 < speed < 1000.0}


def _spec(root: ElementTree.Element, urdf: Path, remarks: list[str]) -> mujoco.MjSpec:
    """The URDF as MuJoCo reads it; without meshes where it cannot compile with them."""
    for joint in root.findall("joint"):
        # Some say (0, 0, 0), which no reader of moving joints takes.
        if joint.get("type") == "fixed" and (axis := joint.find("axis")) is not None:
            joint.remove(axis)
    for tag in ("mujoco", "ros2_control", "transmission", "gazebo"):
        for element in root.findall(tag):
            root.remove(element)
    extension = ElementTree.SubElement(root, "mujoco")
    ElementTree.SubElement(
        extension,
        "compiler",
        strippath="false",
        discardvisual="false",
        fusestatic="false",
        inertiafromgeom="false",
        balanceinertia="true",
    )
    for attempt in (True, False):
        try:
            spec = mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))
            spec.copy().compile()
            return spec
        except ValueError as error:
            if not attempt or not any(True for _ in root.iter("mesh")):
                raise NewRobotError(f"{urdf}: MuJoCo does not compile it: {error}") from None
            remarks.append(f"left out all meshes, since MuJoCo does not compile them: {error}".replace("\n", " "))
        for link in root.iter("link"):
            for shape in [*link.findall("visual"), *link.findall("collision")]:
                if shape.find("geometry/mesh") is not None:
                    link.remove(shape)
    raise AssertionError("unreachable")


def _inertias(spec: mujoco.MjSpec, urdf: Path) -> dict[str, float]:
    """Diagonal of the mass matrix at the reference configuration, by joint."""
    model = _compile(spec.copy(), urdf)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, mass)
    return {model.joint(i).name: float(mass[model.jnt_dofadr[i], model.jnt_dofadr[i]]) for i in range(model.njnt)}


def _compile(spec: mujoco.MjSpec, urdf: Path) -> mujoco.MjModel:
    try:
        return spec.compile()
    except ValueError as error:
        raise NewRobotError(f"{urdf}: MuJoCo does not compile it: {error}") from None


def _add_actuator(spec: mujoco.MjSpec, joint: mujoco.MjsJoint, drive: Drive, inertia: float, speed: float) -> None:
    actuator = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    # What the drive's forces are limited to is not the joint's.
    joint.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE
    if drive.interface == "effort":
        low, high = max(drive.bounds[0], -drive.effort), min(drive.bounds[1], drive.effort)
        actuator.set_to_motor()
    elif drive.interface == "velocity":
        low, high = max(drive.bounds[0], -speed), min(drive.bounds[1], speed)
        actuator.set_to_velocity(inertia / SERVO_TIME)
    else:
        ends = (
            joint.range
            if joint.limited != mujoco.mjtLimited.mjLIMITED_FALSE and joint.range[1] > joint.range[0]
            else OPEN
        )
        low, high = max(drive.bounds[0], float(ends[0])), min(drive.bounds[1], float(ends[1]))
        actuator.set_to_position(inertia / SERVO_TIME**2, dampratio=1.0)
    if drive.interface != "effort" and drive.effort > 0.0:
        actuator.forcelimited, actuator.forcerange = mujoco.mjtLimited.mjLIMITED_TRUE, [-drive.effort, drive.effort]
    if math.isfinite(low) and math.isfinite(high):
        actuator.ctrllimited, actuator.ctrlrange = mujoco.mjtLimited.mjLIMITED_TRUE, [low, high]
