# SPDX-License-Identifier: Apache-2.0
"""How the nodes of this package start and end as processes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from robot_graph import DISCOVERY, ROBOTS, Graph
from std_msgs.msg import Float64MultiArray

FORBIDDEN = ("torch",)


@pytest.mark.parametrize("mode", ["realtime", "lockstep"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_nodes_in_the_middle_of_an_episode(graph: Graph, mode: str, number: signal.Signals) -> None:
    commands: list[float] = []
    graph.node.create_subscription(
        Float64MultiArray, "effort_controller/commands", lambda message: commands.append(message.data[0]), 1000
    )
    graph.start("mujoco", mode=mode)
    graph.start("robot", mode=mode)
    # In lockstep the robot then waits for an answer to step 5 that never comes.
    graph.answer = lambda time_step: (
        graph.make_plan(time_step, delay=1)
        if mode == "realtime"
        else graph.make_plan(time_step)
        if time_step.step < 5
        else None
    )
    assert graph.start_episode(controller="planner", start_state=[0.0, 1.0, 1.0, 0.0]).success
    graph.wait(lambda: graph.time_steps and graph.time_steps[-1].step >= 5)
    begin = time.monotonic()
    for name in ("robot", "mujoco"):
        graph._processes[name][0].send_signal(number)
    for name in ("robot", "mujoco"):
        assert graph._processes[name][0].wait(3.0) == 0, graph.output(name)
    assert time.monotonic() - begin < 3.0
    assert "Traceback" not in graph.output("robot") + graph.output("mujoco")
    if mode == "realtime":
        graph.wait(lambda: commands[-1] == 0.0)


@pytest.mark.parametrize(
    ("name", "parameters", "text"),
    [
        ("robot", {"robot_file": ROBOTS / "unicycle.yaml"}, "unknown robot 'unicycle'"),
        ("robot", {"colour": 3}, "unknown parameter 'colour'"),
        ("robot", {"lockstep_pace": -1.0}, "parameter 'lockstep_pace': got -1.0, expected at least 0.0"),
        ("mujoco", {"mode": "fast"}, "parameter 'mode': got 'fast', expected one of realtime, lockstep"),
        ("mujoco", {"mode": 3}, "parameter 'mode': got 3"),
    ],
)
def test_bad_parameters_end_the_node_with_one_line(
    graph: Graph, name: str, parameters: dict[str, object], text: str
) -> None:
    process = graph.start(name, **parameters)
    assert process.wait(15.0) == 2
    assert text in graph.output(name)
    assert "Traceback" not in graph.output(name)


def test_joint_that_the_mjcf_lacks_is_named(graph: Graph, tmp_path: Path) -> None:
    content = yaml.safe_load((ROBOTS / "cartpole.yaml").read_text())
    content["joints"][1]["name"] = "pole"
    path = tmp_path / "cartpole.yaml"
    path.write_text(yaml.safe_dump(content))
    assert graph.start("mujoco", robot_file=path).wait(15.0) == 2
    assert "joint 'pole' is not in" in graph.output("mujoco")


@pytest.mark.parametrize(
    "name", ["robot", "mujoco", "command_splitter", "watchdog", "faulty_backend", "gazebo_reset", "markers"]
)
def test_nodes_never_import_torch(name: str) -> None:
    code = f"import sys, mbrl_robot.nodes.{name}_node; print([m for m in {FORBIDDEN} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30.0, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["mujoco", "robot"])
@pytest.mark.parametrize(("mode", "asked"), [("realtime", True), ("realtime", False), ("lockstep", True)])
def test_memory_is_locked_in_realtime(graph: Graph, name: str, mode: str, asked: bool) -> None:
    process = graph.start(name, mode=mode, lock_memory=asked)
    graph.wait(lambda: "message" in graph.diagnostics.get(f"/{name}", {}), DISCOVERY)
    said = graph.diagnostics[f"/{name}"].get("memory_locked", "False") == "True"
    status = Path(f"/proc/{process.pid}/status").read_text().split()
    locked, resident = (int(status[status.index(field) + 1]) for field in ("VmLck:", "VmRSS:"))
    if mode == "lockstep" or not asked:
        assert not said and locked == 0
    elif said:
        assert locked > 0.9 * resident
    else:
        assert locked == 0
        pytest.skip("the system does not permit it")


def test_nothing_is_imported_while_the_robot_moves(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    # An import takes tens of milliseconds where its byte code is not at hand: ticks would be missed.
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    graph.start("mujoco")
    graph.start("robot")
    graph.answer = lambda time_step: graph.make_plan(time_step, delay=1)
    result = graph.start_episode(max_steps=50, seed=3, controller="planner")
    assert result.success, result.message
    graph.wait(lambda: graph.of(result.episode))
    graph.plans.publish(graph.make_plan(graph.of(result.episode)[-1], controller="nobody"))
    graph.wait(lambda: graph.refused("robot", "plan/unknown_controller") == 1)
    graph.episode(result.episode)
    graph.wait(lambda: "tick_jitter_ms_p99" in graph.diagnostics["/robot"])
    for name in ("mujoco", "robot"):
        before, ready, after = graph.output(name).partition("robot 'cartpole': realtime")
        assert ready and "numpy" in before
        imported = [line for line in after.splitlines() if line.startswith("import time:")]
        assert not imported, (name, imported)
