# SPDX-License-Identifier: Apache-2.0
"""What no format checker sees: plugin names, topics, joint references, controllers and the launch file."""

import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from shipped_robots import FOLDERS, IN_GAZEBO, REPOSITORY, ROBOTS, WORLD

from mbrl_core.robot_file import Robot, load_robot

LAUNCH = REPOSITORY / "launch" / "gazebo.launch.yaml"
DEFAULT_SET = {
    "gz-sim-physics-system": "gz::sim::systems::Physics",
    "gz-sim-user-commands-system": "gz::sim::systems::UserCommands",
    "gz-sim-scene-broadcaster-system": "gz::sim::systems::SceneBroadcaster",
}

# Plugin, its class, and what its topic ends with.
DRIVES = {
    "effort": ("gz-sim-apply-joint-force-system", "gz::sim::systems::ApplyJointForce", "cmd_force"),
    "velocity": ("gz-sim-joint-controller-system", "gz::sim::systems::JointController", "cmd_vel"),
    "position": ("gz-sim-joint-position-controller-system", "gz::sim::systems::JointPositionController", "cmd_pos"),
}


def topic(robot: Robot, joint: str) -> str:
    return f"/model/{robot.spec.name}/joint/{joint}/{DRIVES[robot.interface][2]}"


def robot_of(name: str) -> Robot:
    return load_robot(REPOSITORY / "config" / "robots" / f"{name}.yaml")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def parsed(path: Path, child: str) -> ElementTree.Element:
    root = ElementTree.parse(path).getroot()
    found = root.find(child)
    assert root.tag == "sdf" and found is not None
    assert float(root.attrib["version"].replace("1.", "")) <= 9, "SDF 1.9 or lower"
    return found


def test_what_gazebo_can_simulate() -> None:
    assert IN_GAZEBO == ("acrobot", "arm", "arm_velocity", "cartpole", "pendulum")


def test_world() -> None:
    world = parsed(WORLD, "world")
    assert {plugin.get("filename"): plugin.get("name") for plugin in world.findall("plugin")} == DEFAULT_SET
    step = float(world.findtext("physics/max_step_size", "nan"))
    for name in IN_GAZEBO:
        steps = robot_of(name).spec.period / step
        assert abs(steps - round(steps)) < 1e-9, "the control period has to be a whole number of physics steps"
    assert world.findtext("physics/real_time_factor") == "1"
    assert world.findtext("gravity") == "0 0 -9.81"


@pytest.mark.parametrize("name", ROBOTS)
def test_model_plugins(name: str) -> None:
    model = parsed(FOLDERS.sdf(name), "model")
    assert model.get("name") == name
    joints = {joint.get("name") for joint in model.findall("joint")}
    links = {link.get("name") for link in model.findall("link")}
    for joint in model.findall("joint"):
        assert {joint.findtext("parent"), joint.findtext("child")} <= {*links, "world"}
    found = [
        (plugin.get("filename"), plugin.get("name"), [joint.text for joint in plugin.findall("joint_name")])
        for plugin in model.findall("plugin")
    ]
    if name not in IN_GAZEBO:
        assert not found, "what Gazebo would simulate falsely, it does not drive"
        return
    robot = robot_of(name)
    states = [joint.name for joint in robot.joints]
    publisher = ("gz-sim-joint-state-publisher-system", "gz::sim::systems::JointStatePublisher", states)
    drives = [(*DRIVES[robot.interface][:2], [joint]) for joint in robot.spec.action.names]
    assert found == [publisher, *drives]
    # ApplyJointForce has no other topic than that of its joint; the others are told theirs.
    expected = [] if robot.interface == "effort" else [topic(robot, joint) for joint in robot.spec.action.names]
    assert [item.text for item in model.findall("plugin/topic")] == expected
    assert {*states, *robot.spec.action.names} <= joints


@pytest.mark.parametrize("name", ROBOTS)
def test_model_stands_on_its_world(name: str) -> None:
    fixed = parsed(FOLDERS.sdf(name), "model").findall("joint[@type='fixed']")
    assert [(joint.findtext("parent"), joint.findtext("child")) for joint in fixed] == [("world", "base")]


@pytest.mark.parametrize("name", IN_GAZEBO)
def test_bridge(name: str) -> None:
    world = parsed(WORLD, "world").get("name")
    joint_states = {
        "ros_topic_name": "joint_states",
        "gz_topic_name": f"/world/{world}/model/{name}/joint_state",
        "ros_type_name": "sensor_msgs/msg/JointState",
        "gz_type_name": "gz.msgs.Model",
        "direction": "GZ_TO_ROS",
    }
    forces = [
        {
            "ros_topic_name": f"{joint}/{DRIVES[robot_of(name).interface][2]}",
            "gz_topic_name": topic(robot_of(name), joint),
            "ros_type_name": "std_msgs/msg/Float64",
            "gz_type_name": "gz.msgs.Double",
            "direction": "ROS_TO_GZ",
        }
        for joint in robot_of(name).spec.action.names
    ]
    assert load(FOLDERS.bridge(name)) == [joint_states, *forces]


def test_clock_has_a_bridge_of_its_own() -> None:
    clock = {
        "ros_topic_name": "/clock",
        "gz_topic_name": "/clock",
        "ros_type_name": "rosgraph_msgs/msg/Clock",
        "gz_type_name": "gz.msgs.Clock",
        "direction": "GZ_TO_ROS",
    }
    assert load(FOLDERS.gazebo / "clock_bridge.yaml") == [clock]


@pytest.mark.parametrize("name", ROBOTS)
def test_ros2_control_description(name: str) -> None:
    robot = robot_of(name)
    root = ElementTree.parse(FOLDERS.ros2_control(name)).getroot()
    assert [part.get("filename") for part in root if part.tag.endswith("}include")] == [FOLDERS.urdf(name).name]
    urdf_joints = {joint.get("name") for joint in ElementTree.parse(FOLDERS.urdf(name)).getroot().findall("joint")}
    control = root.find("ros2_control")
    assert control is not None and control.get("type") == "system"
    assert control.findtext("hardware/plugin") == "$(arg hardware)"
    states = [joint.name for joint in robot.joints]
    assert [joint.get("name") for joint in control.findall("joint")] == states
    assert set(states) <= urdf_joints
    action = robot.spec.action
    for joint in control.findall("joint"):
        assert [state.get("name") for state in joint.findall("state_interface")] == ["position", "velocity"]
        driven = joint.get("name") in action.names
        assert [command.get("name") for command in joint.findall("command_interface")] == (
            [robot.interface] if driven else []
        )
        if driven:
            index = action.names.index(str(joint.get("name")))
            for end, bound in (("min", action.lower[index]), ("max", action.upper[index])):
                found = float(joint.findtext(f"command_interface/param[@name='{end}']", "nan"))
                assert found == bound * action.scale[index]
    plugins = [(item.get("filename"), item.get("name")) for item in root.iter("plugin") if item.get("filename")]
    defaults = {arg.get("name"): arg.get("default") for arg in root if arg.tag.endswith("}arg")}
    if name in IN_GAZEBO:
        assert plugins == [("gz_ros2_control-system", "gz_ros2_control::GazeboSimROS2ControlPlugin")]
        assert defaults["hardware"] == "gz_ros2_control/GazeboSimSystem"
    else:
        assert not plugins and not defaults


@pytest.mark.parametrize("name", ROBOTS)
def test_never_two_drives_in_one_description(name: str) -> None:
    plugins = {plugin.get("filename") for plugin in parsed(FOLDERS.sdf(name), "model").iter("plugin")}
    assert "gz_ros2_control-system" not in plugins
    root = ElementTree.parse(FOLDERS.ros2_control(name)).getroot()
    for filename, _, _ in DRIVES.values():
        assert filename not in ElementTree.tostring(root, encoding="unicode")
    assert not list(ElementTree.parse(FOLDERS.urdf(name)).getroot().iter("gazebo"))


@pytest.mark.parametrize("name", ROBOTS)
def test_controllers(name: str) -> None:
    robot = robot_of(name)
    content = load(FOLDERS.controllers(name))
    manager = content["controller_manager"]["ros__parameters"]
    assert manager["joint_state_broadcaster"] == {"type": "joint_state_broadcaster/JointStateBroadcaster"}
    controller = robot.command_topic.removesuffix("/commands")
    assert manager[controller] == {"type": "forward_command_controller/ForwardCommandController"}
    expected = {"joints": list(robot.spec.action.names), "interface_name": robot.interface}
    assert content[controller]["ros__parameters"] == expected
    ticks = manager["update_rate"] * robot.spec.period
    assert manager["update_rate"] >= 500
    assert abs(ticks - round(ticks)) < 1e-9, "the control period has to be a whole number of controller updates"


def launch_nodes(path: str) -> dict[str, dict[str, Any]]:
    """Nodes of the launch file on one of its two paths."""
    found = {}
    for item in load(LAUNCH)["launch"]:
        condition = item.get("node", {}).get("if", "").replace("$(var path)", path)
        if "node" in item and condition in ("", "$(var gui)", f"$(equals {path} {path})"):
            found[item["node"]["name"]] = item["node"]
    return found


def parameters(node: dict[str, Any]) -> dict[str, Any]:
    """Those with a name; a file has none."""
    return {item["name"]: item["value"] for item in node["param"] if "name" in item}


def test_launch_file() -> None:
    text = LAUNCH.read_text()
    assert "$(eval" not in text
    arguments = {item["arg"]["name"]: item["arg"] for item in load(LAUNCH)["launch"] if "arg" in item}
    assert set(arguments) == {"robot", "path", "gui", "world", "respawn", "parameters"}
    assert arguments["world"]["default"] == f"$(find-pkg-share mbrl_description)/sdf/{WORLD.name}"
    assert arguments["path"]["default"] == "ros2_control"
    choices = [choice["value"] for choice in arguments["robot"]["choice"]]
    assert sorted(choices) == sorted(IN_GAZEBO)
    for name in choices:
        for file in (FOLDERS.sdf(name), FOLDERS.bridge(name), FOLDERS.ros2_control(name), FOLDERS.controllers(name)):
            assert file.is_file()
    lets = {item["let"]["name"]: item["let"]["value"] for item in load(LAUNCH)["launch"] if "let" in item}
    share = "$(find-pkg-share mbrl_bringup)/config"
    assert lets["robot_file"] == f"{share}/robots/$(var robot).yaml"
    assert lets["controllers_file"] == f"{share}/gazebo/$(var robot)_controllers.yaml"
    assert lets["xacro_file"] == "$(find-pkg-share mbrl_description)/urdf/$(var robot)_ros2_control.urdf.xacro"


@pytest.mark.parametrize("path", ["ros2_control", "bridge"])
def test_both_paths_have_a_world_and_a_clock_of_its_own(path: str) -> None:
    nodes = launch_nodes(path)
    assert parameters(nodes["gzserver"]) == {"world_sdf_file": "$(var world)"}
    assert nodes["gzserver"]["on_exit"] == "shutdown"
    assert nodes["gazebo_gui"]["if"] == "$(var gui)"
    clock = parameters(nodes["clock_bridge"])
    assert clock == {"config_file": "$(find-pkg-share mbrl_bringup)/config/gazebo/clock_bridge.yaml"}
    assert parameters(nodes["spawn_robot"])["world"] == parsed(WORLD, "world").get("name")


def test_bridge_path_has_forces_and_nothing_of_ros2_control() -> None:
    nodes = launch_nodes("bridge")
    spawn = parameters(nodes["spawn_robot"])
    assert spawn["file"] == "$(find-pkg-share mbrl_description)/sdf/$(var robot).sdf"
    assert spawn["name"] == "$(var robot)" and "topic" not in spawn
    bridge = parameters(nodes["robot_bridge"])
    assert bridge == {"config_file": "$(find-pkg-share mbrl_bringup)/config/gazebo/$(var robot)_bridge.yaml"}
    assert parameters(nodes["command_splitter"])["robot_file"] == "$(var robot_file)"
    assert not {"robot_state_publisher", "spawn_controllers"} & set(nodes)
    for own in ("gazebo_reset", "command_splitter"):
        assert nodes[own]["param"][-1] == {"from": "$(var parameters)"}
        assert nodes[own]["respawn"] == "$(var respawn)"


def test_ros2_control_path_has_controllers_and_no_forces() -> None:
    nodes = launch_nodes("ros2_control")
    spawn = parameters(nodes["spawn_robot"])
    assert spawn["topic"] == "robot_description" and "file" not in spawn
    description = parameters(nodes["robot_state_publisher"])
    assert (
        description["robot_description"] == "$(command 'xacro $(var xacro_file) controllers:=$(var controllers_file)')"
    )
    assert description["use_sim_time"] is True
    assert nodes["spawn_controllers"]["args"].split()[:2] == ["joint_state_broadcaster", "$(var"]
    script = LAUNCH.parent / "robot_files.sh"
    for name in IN_GAZEBO:
        manager = load(FOLDERS.controllers(name))["controller_manager"]["ros__parameters"]
        command = ["sh", str(script), str(LAUNCH.parents[1] / "config"), "controller", name]
        controller = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert {"joint_state_broadcaster", controller} <= set(manager)
    assert not {"robot_bridge", "command_splitter"} & set(nodes)
