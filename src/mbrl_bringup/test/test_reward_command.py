# SPDX-License-Identifier: Apache-2.0
"""`./mbrl reward` changes what an experiment wants while it runs: trainer, planner and robot as processes."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from test_swap import CONFIG, Graph, graph, model_message, planner, start_robot  # noqa: F401 - graph is a fixture

from mbrl_core.learned_reward import load_reward
from mbrl_core.robot_file import Robot
from mbrl_core.tasks import make_task
from mbrl_msgs.msg import ExperimentStatus, Model, Task, TimeStep
from mbrl_policy.training import SimulatedRobot
from mbrl_ros import qos

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "src" / "mbrl_policy" / "test"))

from example_bags import Bag  # noqa: E402
from swing_up import shown_by_a_person  # noqa: E402
from test_irl_node import time_steps  # noqa: E402

STEPS = 8  # of an episode of the trainer
QUICK = (
    "horizon=6", "windows=2", "samples=3", "gradient_steps=5", "candidates=8", "hidden=[8]", "planner.kind=icem",
    "planner.horizon=6", "planner.iterations=1", "planner.population_size=10", "planner.elites=3",
    "planner.particles=5",
)  # fmt: skip


def ask(graph: Graph, *words: str) -> tuple[int, str, str]:  # noqa: F811
    """`./mbrl` with these words: exit status, what it says, and what it complains of."""
    command = [sys.executable, "-c", "import sys; from mbrl_bringup.cli import main; sys.exit(main(sys.argv[1:]))"]
    process = subprocess.Popen(
        [*command, *words], env=graph.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    graph.wait(lambda: process.poll() is not None, f"./mbrl {' '.join(words)}", 120.0)
    said, complained = process.communicate()
    return process.returncode, said, complained


def shown(robot: Robot, path: Path) -> str:
    """A bag of what a person has shown."""
    here, bag = SimulatedRobot(robot, make_task("pendulum_upright"), 12), Bag(path, robot.spec)
    for episode in (1, 2):
        bag.steps(time_steps(here.rollout_controller(shown_by_a_person, seed=episode), episode, "teleop"))
    bag.close()
    return str(path)


def test_the_newest_reward_is_the_task_of_a_running_experiment(graph: Graph, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "robots").mkdir()
    shutil.copytree(CONFIG / "tasks", tmp_path / "tasks")
    robot = start_robot(graph, tmp_path / "robots")
    robot_file = ("-p", f"robot_file:={tmp_path / 'robots' / 'slow_pendulum.yaml'}")
    models = graph.node.create_publisher(Model, "model", qos.LATCHED)
    models.publish(model_message(robot))
    tasks, rewards, statuses = list[Task](), list[Task](), list[ExperimentStatus]()
    for kind, topic, heard in (
        (Task, "task", tasks), (Task, "learned_reward", rewards), (ExperimentStatus, "experiment_status", statuses),
    ):  # fmt: skip
        graph.node.create_subscription(kind, topic, heard.append, qos.LATCHED)

    # A trainer that has made none yet, and no experiment.
    training = ("own_task:=true", f"episode_steps:={STEPS}", f"run_directory:={tmp_path / 'wanted'}")
    graph.start("trainer", "mbrl_policy", "trainer_node", *robot_file, *[w for p in training for w in ("-p", p)])
    graph.wait(lambda: models.get_subscription_count() == 1, "the trainer")
    status, said, complained = ask(graph, "reward", "--timeout", "3")
    assert (status, said) == (1, "")
    assert "waited 3 s for a learned reward on the topic learned_reward: has a trainer made one?" in complained

    settings = [word for setting in QUICK for word in ("--set", setting)]
    data = shown(robot, tmp_path / "shown")
    status, said, complained = ask(graph, "train", "guided_cost", "--data", data, "--budget", "2", *settings)
    assert status == 0 and "reward version" in said, complained
    graph.wait(lambda: rewards, "the reward on its topic")
    status, said, complained = ask(graph, "reward", "--timeout", "6")
    assert (status, said) == (1, "")
    assert "waited 6 s for the service set_task in ROS domain" in complained

    planner(graph, "planner", "icem")
    experiment = ("trials:=2", "random_trials:=0", "episode_steps:=200", "wait_for:=['trainer']")
    words = [word for value in (*experiment, f"run_directory:={tmp_path / 'followed'}") for word in ("-p", value)]
    graph.start("experiment", "mbrl_bringup", "experiment_node", *robot_file, *words)
    trained = len(graph.time_steps)

    def moved(count: int) -> bool:
        """Whether the planner has moved the robot so many steps in the trial."""
        return sum(step.controller == "planner" for step in graph.time_steps[trained:]) >= count

    graph.wait(lambda: moved(3), "the first trial")
    assert (tasks[-1].kind, tasks[-1].version) == ("pendulum_upright", 1)
    episode = graph.time_steps[-1].episode
    status, said, complained = ask(graph, "reward")
    assert (status, complained) == (0, "") and said == "the learned reward is the task in force, version 2\n"
    graph.wait(lambda: tasks[-1].version == 2, "the task")
    assert tasks[-1].kind == "learned" and bytes(tasks[-1].content) == bytes(rewards[-1].content)

    # The planner follows it from its next plan on, and the trial goes on.
    graph.wait(lambda: graph.plans[-1].task_version == 2, "a plan for it")
    changed = graph.plans[-1].answers_step
    graph.wait(lambda: graph.time_steps[-1].step >= changed + 3, "steps of these plans")
    served = [step for step in graph.time_steps[trained:] if step.episode == episode and step.step > changed]
    assert served and all(step.controller == "planner" and not step.fallback for step in served)
    assert graph.time_steps[-1].step_type == TimeStep.MID and statuses[-1].phase == "running"
    versions = [plan.task_version for plan in graph.plans if plan.episode == episode and plan.controller == "planner"]
    assert versions == sorted(versions) and set(versions) == {1, 2}

    # That of a file takes its place as well: the trainer's newest is the same.
    file = tmp_path / "wanted" / "checkpoints" / "reward.safetensors"
    assert load_reward(file).content == bytes(rewards[-1].content)
    assert ask(graph, "reward", str(file))[:2] == (0, "the learned reward is the task in force, version 3\n")
    graph.wait(lambda: tasks[-1].version == 3, "the task")
    assert bytes(tasks[-1].content) == bytes(rewards[-1].content)
    assert np.isfinite([step.state for step in graph.time_steps]).all()
