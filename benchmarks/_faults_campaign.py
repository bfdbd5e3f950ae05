# SPDX-License-Identifier: Apache-2.0
"""Kills, freezes and spoils what moves a robot, one thing after another, and notes when: the bench `faults`."""

import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import rclpy
from _faults_graph import EPISODE_SECONDS, Graph
from _faults_view import View
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.context import Context
from rclpy.parameter import Parameter

from mbrl_msgs.srv import SelectController

FREEZE = 0.5  # s
SPOILED = 5.0  # s of each fault of the line
BURST = 0.15  # s of nothing but NaN, and as long without
ROOM = 14.0  # s that have to be left of an episode
BACK_WITHIN = 60.0  # s, after which the bench gives up
# What the line does: name, parameters of faulty_backend, for both directions.
FAULTS: dict[str, dict[str, Any]] = {
    "loss": {"drop": 0.3},
    "delay": {"delay": 0.2},
    "nan": {"corrupt": 1.0, "corruption": "not_a_number"},
}


@dataclass
class Event:
    """Something that was done to a node. Times in ns since 1970; `until_ns` is the end of a freeze or fault, 0 = none;
    `process` the one that was killed or frozen, `instead` who serves in its place.
    """

    kind: str
    node: str
    number: int
    at_ns: int
    until_ns: int = 0
    process: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


class Hand:
    """A node of the bench's own: selects controllers and sets parameters, as a user does."""

    def __init__(self, domain: int) -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("_hand", context=self._context)
        self._executor = rclpy.executors.SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._select = self._node.create_client(SelectController, "select_controller")
        self._set = self._node.create_client(SetParametersAtomically, "faulty_backend/set_parameters_atomically")

    def select(self, controller: str) -> None:
        """Selects a controller."""
        self._call(self._select, SelectController.Request(controller=controller))

    def spoil(self, faults: dict[str, Any]) -> None:
        """Sets parameters of faulty_backend."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in faults.items()]
        self._call(self._set, SetParametersAtomically.Request(parameters=parameters))

    def close(self) -> None:
        """Ends."""
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _call(self, client: Any, request: Any) -> None:
        """Asks until somebody answers: those who are asked are killed now and then."""
        for _ in range(20):
            if not client.wait_for_service(timeout_sec=1.0):
                continue
            future = client.call_async(request)
            self._executor.spin_until_future_complete(future, timeout_sec=2.0)
            if future.done() and future.result() is not None:
                return
        raise RuntimeError(f"nobody answers {client.srv_name}")


class Campaign:
    """Everything that is done to one graph, in order; `events` holds it."""

    def __init__(self, graph: Graph, view: View, hand: Hand, repeats: int, seed: int) -> None:
        self.graph, self.view, self.hand, self.repeats = graph, view, hand, repeats
        self.events: list[Event] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Waits until everything runs: the first trial, which is random, and then a model."""
        view = self.view
        view.wait(lambda: view.serving("explore", 10), "the random trial", 120.0)
        for node in ("robot", "mujoco", "faulty_backend", "learner", "planner", "policy", "recorder", "watchdog"):
            view.wait(lambda node=node: view.told(node, 0), f"/diagnostics of {node}")
        view.wait(lambda: int(view.figures_of("planner").get("model_version", 0)) > 0, "a model", 120.0)

    # --- single events ----------------------------------------------------------------------------------------

    def _note(self, kind: str, node: str, number: int, process: str) -> Event:
        event = Event(kind, node, number, time.time_ns(), process=process)
        with self._lock:
            self.events.append(event)
        return event

    def kill(self, node: str, number: int) -> Event:
        """Kills it; whoever started it starts it again."""
        event = self._note("kill", node, number, self.view.process(node))
        self.graph.signal(node, signal.SIGKILL)
        return event

    def freeze(self, node: str, number: int, seconds: float = FREEZE) -> Event:
        """Stops it for a while."""
        event = self._note("freeze", node, number, self.view.process(node))
        self.graph.signal(node, signal.SIGSTOP)
        time.sleep(seconds)
        event.until_ns = time.time_ns()
        self.graph.signal(node, signal.SIGCONT)
        return event

    def _pause(self, longest: float = 0.3) -> None:
        time.sleep(self._random.uniform(0.05, longest))

    def _well(self, controller: str, room: float = ROOM) -> None:
        """Selects a controller, and waits for an episode in which it serves and that goes on for long enough."""
        steps = (EPISODE_SECONDS - room) / self.graph.robot.spec.period

        def ready() -> bool:
            # A new trial has selected its own.
            if self.view.selected != controller:
                self.hand.select(controller)
                time.sleep(0.2)
            return self.view.serving(controller, 5) and self.view.step < steps

        self.view.wait(ready, f"{controller} to serve", 120.0)

    def _restarted(self, event: Event) -> None:
        """Waits until another process of the node has told of itself."""
        self.view.wait(
            lambda: self.view.told(event.node, event.at_ns, event.process), f"another {event.node}", BACK_WITHIN
        )

    def _serves_again(self, event: Event) -> bool:
        """Whether it serves, or nobody does since the episode is over."""
        since = event.until_ns or event.at_ns
        return self.view.moving(1, since) and (self.view.serving(event.node, 3) or self.view.step < 5)

    # --- what is done to whom ---------------------------------------------------------------------------------

    def controllers(self) -> None:
        """Planner and policy in turn: one is selected and killed, the next serves; that is frozen, the safe action
        serves; all come back.
        """
        for number in range(self.repeats):
            for killed, frozen in (("planner", "policy"), ("policy", "planner")):
                self._well(killed)
                self._pause()
                event = self.kill(killed, number)
                self.view.wait(lambda frozen=frozen: self.view.serving(frozen, 3), f"{frozen} in place of {killed}")
                self._pause()
                self.freeze(frozen, number)
                self._restarted(event)
                self.view.wait(lambda event=event: self._serves_again(event), f"{killed} again")
        self.hand.select("planner")

    def explore(self) -> None:
        """The controller of random trials, while it is selected."""
        for number in range(self.repeats):
            self._well("explore", 8.0)
            self._pause()
            event = self.kill("explore", number)
            self._restarted(event)
            self._well("explore", 4.0)
            event = self.freeze("explore", number)
            self.view.wait(lambda event=event: self._serves_again(event), "explore after its freeze")
        self.hand.select("planner")

    def aside(self, node: str) -> None:
        """A node without which the robot goes on as before."""
        for number in range(self.repeats):
            event = self.kill(node, number)
            self._restarted(event)
            self._pause()
            event = self.freeze(node, number, 2.0 * FREEZE)
            self.view.wait(lambda event=event: self.view.told(node, event.until_ns), f"{node} after its freeze")

    def backend(self, node: str) -> None:
        """What the state comes through: the episode ends by FAULT, and the next begins when it is back."""
        for number in range(self.repeats):
            for act in (self.kill, self.freeze):
                self.view.wait(self.view.moving, "an episode", 120.0)
                self._pause()
                event = act(node, number)
                if event.kind == "kill":
                    self._restarted(event)
                since = event.until_ns or event.at_ns
                self.view.wait(lambda since=since: self.view.moving(5, since), f"an episode after {event}", 120.0)

    def experiment(self) -> None:
        """Who starts episodes: the present one goes on without it, and it goes on with its trials."""
        for number in range(self.repeats):
            self.view.wait(self.view.moving, "an episode", 120.0)
            self._pause()
            event = self.kill("experiment", number)
            self._restarted(event)
            self.view.wait(lambda event=event: self._begun(event.at_ns), "a trial of another experiment", 120.0)
            self.freeze("experiment", number)

    def _begun(self, after_ns: int) -> bool:
        return any(message.content[2] == 0 for message in self.view.since("t", after_ns)) and self.view.moving()

    def robot(self) -> None:
        """The control clock itself: the watchdog commands; then that is killed, too, and the backend gives up."""
        for number in range(self.repeats):
            self.view.wait(self.view.moving, "an episode", 120.0)
            self._pause()
            self.freeze("robot", number)
            self.view.wait(lambda: self.view.moving(10), "an episode after the freeze", 120.0)
            self._pause()
            event = self.kill("robot", number)
            time.sleep(8.0 * self.graph.robot.spec.period)
            self.kill("watchdog", number).figures["after"] = "robot"
            self.view.wait(lambda event=event: self.view.moving(5, event.at_ns + 10**9), "another robot", 120.0)
            self.view.wait(lambda event=event: self.view.told("watchdog", event.at_ns + 10**9), "another watchdog")

    def line(self) -> None:
        """Loss, delay and bursts of NaN, on joint states and on commands."""
        for name, faults in FAULTS.items():
            for number, direction in enumerate(("joint_states", "commands")):
                on = {f"{direction}.{key}": value for key, value in faults.items()}
                off = {key: 0.0 if isinstance(value, float) else value for key, value in on.items()}
                self.view.wait(self.view.moving, "an episode", 120.0)
                event = self._note(name, f"faulty_backend/{direction}", number, "")
                while time.time_ns() - event.at_ns < SPOILED * 1e9:
                    self.hand.spoil(on)
                    time.sleep(BURST if name == "nan" else SPOILED)
                    self.hand.spoil(off)
                    time.sleep(BURST if name == "nan" else 0.0)
                event.until_ns = time.time_ns()
        self.view.wait(self.view.moving, "an episode", 120.0)

    def together(self, *acts: Callable[[], None]) -> None:
        """Several at once."""
        with ThreadPoolExecutor(len(acts)) as pool:
            for future in [pool.submit(act) for act in acts]:
                future.result()
