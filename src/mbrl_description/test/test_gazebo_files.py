# SPDX-License-Identifier: Apache-2.0
"""What no format checker sees: plugin names, topics, joint references, controllers and the launch file."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml
from cartpole_files import ROS2_CONTROL, SDF, URDF, WORLD

from mbrl_core.robot_file import load_robot

REPOSITORY = Path(__file__).parents[3]
GAZEBO = REPOSITORY / "config" / "gazebo"
LAUNCH = REPOSITORY / "launch" / "gazebo.launch.yaml"
ROBOT = load_robot(REPOSITORY / "config" / "robots" / "cartpole.yaml")
STATE_JOINTS = [joint.name for joint in ROBOT.joints]
DRIVEN_JOINTS = list(ROBOT.spec.action.names)
DEFAULT_SET = {
    "gz-sim-physics-system": "gz::sim::systems::Physics",
    "gz-sim-user-commands-system": "gz::sim::systems::UserCommands",
    "gz-sim-scene-broadcaster-system": "gz::sim::systems::SceneBroadcaster",
}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def parsed(path: Path, child: str) -> ElementTree.Element:
    root = ElementTree.parse(path).getroot()
    found = root.find(child)
    assert root.tag == "sdf" and found is not None
    assert float(root.attrib["version"].replace("1.", "")) <= 9, "SDF 1.9 or lower"
    return found


def test_world() -> None:
    world = parsed(WORLD, "world")
    assert {plugin.get("filename"): plugin.get("name") for plugin in world.findall("plugin")} == DEFAULT_SET
    step = float(world.findtext("physics/max_step_size", "nan"))
    steps = ROBOT.spec.period / step
    assert abs(steps - round(steps)) < 1e-9, "the control period has to be a whole number of physics steps"
    assert world.findtext("physics/real_time_factor") == "1"
    assert world.findtext("gravity") == "0 0 -9.81"


def test_model_plugins() -> None:
    model = parsed(SDF, "model")
    joints = {joint.get("name") for joint in model.findall("joint")}
    found = [
        (plugin.get("filename"), plugin.get("name"), [joint.text for joint in plugin.findall("joint_name")])
        for plugin in model.findall("plugin")
    ]
    publisher = ("gz-sim-joint-state-publisher-system", "gz::sim::systems::JointStatePublisher", STATE_JOINTS)
    drives = [
        ("gz-sim-apply-joint-force-system", "gz::sim::systems::ApplyJointForce", [joint]) for joint in DRIVEN_JOINTS
    ]
    assert found == [publisher, *drives]
    assert {*STATE_JOINTS, *DRIVEN_JOINTS} <= joints


def test_model_stands_on_its_world() -> None:
    fixed = parsed(SDF, "model").find("joint[@type='fixed']")
    assert fixed is not None
    assert (fixed.findtext("parent"), fixed.findtext("child")) == ("world", "rail")


def test_bridge() -> None:
    world, model = parsed(WORLD, "world").get("name"), parsed(SDF, "model").get("name")
    joint_states = {
        "ros_topic_name": "joint_states",
        "gz_topic_name": f"/world/{world}/model/{model}/joint_state",
        "ros_type_name": "sensor_msgs/msg/JointState",
        "gz_type_name": "gz.msgs.Model",
        "direction": "GZ_TO_ROS",
    }
    forces = [
        {
            "ros_topic_name": f"{joint}/cmd_force",
            "gz_topic_name": f"/model/{model}/joint/{joint}/cmd_force",
            "ros_type_name": "std_msgs/msg/Float64",
            "gz_type_name": "gz.msgs.Double",
            "direction": "ROS_TO_GZ",
        }
        for joint in DRIVEN_JOINTS
    ]
    assert load(GAZEBO / "cartpole_bridge.yaml") == [joint_states, *forces]
    clock = {
        "ros_topic_name": "/clock",
        "gz_topic_name": "/clock",
        "ros_type_name": "rosgraph_msgs/msg/Clock",
        "gz_type_name": "gz.msgs.Clock",
        "direction": "GZ_TO_ROS",
    }
    assert load(GAZEBO / "clock_bridge.yaml") == [clock]


def test_ros2_control_description() -> None:
    root = ElementTree.parse(ROS2_CONTROL).getroot()
    urdf_joints = {joint.get("name") for joint in ElementTree.parse(URDF).getroot().findall("joint")}
    control = root.find("ros2_control")
    assert control is not None and control.get("type") == "system"
    assert [joint.get("name") for joint in control.findall("joint")] == STATE_JOINTS
    assert set(STATE_JOINTS) <= urdf_joints
    for joint in control.findall("joint"):
        assert [state.get("name") for state in joint.findall("state_interface")] == ["position", "velocity"]
        name = joint.get("name")
        commands = [command.get("name") for command in joint.findall("command_interface")]
        assert commands == (["effort"] if name in DRIVEN_JOINTS else [])
        if name in DRIVEN_JOINTS:
            index = DRIVEN_JOINTS.index(name)
            action = ROBOT.spec.action
            assert float(joint.findtext("command_interface/param[@name='max']", "nan")) == (
                action.upper[index] * action.scale[index]
            )
            assert float(joint.findtext("command_interface/param[@name='min']", "nan")) == (
                action.lower[index] * action.scale[index]
            )
    plugins = [plugin for plugin in root.iter("plugin") if plugin.get("filename")]
    assert [(plugin.get("filename"), plugin.get("name")) for plugin in plugins] == [
        ("gz_ros2_control-system", "gz_ros2_control::GazeboSimROS2ControlPlugin")
    ]
    defaults = {arg.get("name"): arg.get("default") for arg in root if arg.tag.endswith("}arg")}
    assert defaults["hardware"] == "gz_ros2_control/GazeboSimSystem"


def test_never_two_drives_in_one_description() -> None:
    assert "gz_ros2_control" not in {plugin.get("filename") for plugin in parsed(SDF, "model").iter("plugin")}
    assert "apply-joint-force" not in ElementTree.tostring(
        ElementTree.parse(ROS2_CONTROL).getroot(), encoding="unicode"
    )
    assert not list(ElementTree.parse(URDF).getroot().iter("gazebo"))


def test_controllers() -> None:
    content = load(GAZEBO / "cartpole_controllers.yaml")
    manager = content["controller_manager"]["ros__parameters"]
    assert manager["joint_state_broadcaster"] == {"type": "joint_state_broadcaster/JointStateBroadcaster"}
    controller = ROBOT.command_topic.removesuffix("/commands")
    assert manager[controller] == {"type": "forward_command_controller/ForwardCommandController"}
    assert content[controller]["ros__parameters"] == {"joints": DRIVEN_JOINTS, "interface_name": "effort"}
    ticks = manager["update_rate"] * ROBOT.spec.period
    assert abs(ticks - round(ticks)) < 1e-9, "the control period has to be a whole number of controller updates"


def launch_nodes() -> dict[str, dict[str, Any]]:
    return {item["node"]["name"]: item["node"] for item in load(LAUNCH)["launch"] if "node" in item}


def parameters(node: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item["value"] for item in node["param"]}


def test_launch_file() -> None:
    text = LAUNCH.read_text()
    assert "$(eval" not in text
    arguments = {item["arg"]["name"]: item["arg"] for item in load(LAUNCH)["launch"] if "arg" in item}
    assert set(arguments) == {"robot", "gui", "world"}
    assert arguments["world"]["default"] == f"$(find-pkg-share mbrl_description)/sdf/{WORLD.name}"
    for choice in arguments["robot"]["choice"]:
        name = choice["value"]
        assert (SDF.parent / f"{name}.sdf").is_file()
        assert (GAZEBO / f"{name}_bridge.yaml").is_file()
        assert (REPOSITORY / "config" / "robots" / f"{name}.yaml").is_file()
    includes = [item["include"] for item in load(LAUNCH)["launch"] if "include" in item]
    assert [item["file"] for item in includes] == ["$(find-pkg-share ros_gz_sim)/launch/gz_sim.launch.py"] * 2
    by_condition = {
        "if" if "if" in item else "unless": {arg["name"]: arg["value"] for arg in item["arg"]} for item in includes
    }
    assert by_condition["if"]["gz_args"].split()[:1] == ["-r"]
    assert by_condition["unless"]["gz_args"].split()[:2] == ["-s", "-r"], "without gui the server runs alone"
    assert all("if" not in item or "unless" not in item for item in includes)

    nodes = launch_nodes()
    world = parsed(WORLD, "world").get("name")
    spawn = parameters(nodes["spawn_robot"])
    assert spawn == {
        "world": world,
        "file": "$(find-pkg-share mbrl_description)/sdf/$(var robot).sdf",
        "name": "$(var robot)",
    }
    share = "$(find-pkg-share mbrl_bringup)/config"
    assert parameters(nodes["robot_bridge"]) == {"config_file": f"{share}/gazebo/$(var robot)_bridge.yaml"}
    assert parameters(nodes["clock_bridge"]) == {"config_file": f"{share}/gazebo/clock_bridge.yaml"}
    assert {nodes[name]["exec"] for name in ("robot_bridge", "clock_bridge")} == {"parameter_bridge"}
    assert parameters(nodes["command_splitter"])["robot_file"] == f"{share}/robots/$(var robot).yaml"
    assert (nodes["command_splitter"]["pkg"], nodes["command_splitter"]["exec"]) == (
        "mbrl_robot",
        "command_splitter_node",
    )
