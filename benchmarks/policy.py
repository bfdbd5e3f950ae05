# SPDX-License-Identifier: Apache-2.0
"""How fast a policy answers: inference alone, and the rate that policy_node keeps up over the middleware.

    inference   one state, one thread: all of what policy_node calls solve time, two rows with feedback for the step
                that the answer can reach; beside it the action alone, and the same through torch
    node        policy_node as it is, in realtime, is sent time steps at a rate of its own; a rate is sustained when
                99 % of them are answered before the plan is too old to be executed (the robot's max_open_loop_steps
                periods after the time step, from publication to reception)
    reload      longest time between two answers while a new policy comes, at 500 Hz

The sender shares the machine with the node and takes about as much of it. There is no published figure to stand beside.
"""

import argparse
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _offline import CONFIG
from common import bar, report

from mbrl_core.config import load_preset
from mbrl_core.messages import StepType, TimeStep
from mbrl_core.policies import POLICIES, Policy, make_policy
from mbrl_core.robot_file import load_robot
from mbrl_core.specs import RobotSpec
from mbrl_policy.policy_controller import PolicyController

ROBOTS = ("cartpole", "reacher")
RATES = (250, 500, 750, 1000, 1500, 2000)  # Hz
WANTED_RATE = 500.0  # Hz
LONGEST = 0.5e-3  # seconds, p99 of an inference
ANSWERED = 0.99
SENT = 0.95  # of a rate, at least, that the sender itself has to keep up
WARM_UP = 1.0  # seconds at each rate that are not counted


def preset_policy(kind: str, spec: RobotSpec, seed: int) -> Policy:
    """A policy of the preset's size, whose weights are no longer those of the start."""
    policy = make_policy(kind, load_preset(CONFIG / "policy" / f"{kind}.yaml", "policy"), spec, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in policy.parameters():
            weights.add_(0.1 * torch.randn(weights.shape, generator=generator))
    return policy


def quantiles(call: Callable[[int], Any], count: int) -> dict[str, float]:
    """Median and p99 of `count` calls, seconds; the first 200 calls warm up."""
    seconds = np.empty(count)
    for index in range(-200, count):
        begin = time.perf_counter()
        call(index)
        seconds[index] = time.perf_counter() - begin
    median, high = np.quantile(seconds, [0.5, 0.99])
    return {"p50_us": 1e6 * float(median), "p99_us": 1e6 * float(high)}


def inference(calls: int, seed: int) -> list[dict[str, Any]]:
    """Rows of one way of computing one kind's action for one robot."""
    rows = []
    for robot in ROBOTS:
        spec = load_robot(CONFIG / "robots" / f"{robot}.yaml").spec
        states = np.random.default_rng(seed).normal(size=(100, spec.state.size))
        nothing = np.zeros(spec.action.size)
        time_steps = [TimeStep(1, 1 + index, StepType.MID, state, nothing) for index, state in enumerate(states)]
        for kind in POLICIES.names():
            policy = preset_policy(kind, spec, seed)
            fast, controller = policy.fast(), PolicyController(policy.fast(), spec, rows=2)
            tensors = [torch.from_numpy(state).float() for state in states]

            def through_torch(index: int, policy: Policy = policy, tensors: list[Any] = tensors) -> None:
                with torch.inference_mode():
                    policy.mode(tensors[index % 100], index % 100)

            ways: dict[str, Callable[[int], Any]] = {
                "plan": lambda index, c=controller, t=time_steps: c.answer(t[index % 100], 1),
                "action": lambda index, f=fast, s=states: f.action(s[index % 100], index % 100),
                "torch": through_torch,
            }
            for way, call in ways.items():
                rows.append({"part": "inference", "robot": robot, "kind": kind, "way": way, **quantiles(call, calls)})
    return rows


class Sender:
    """The robot's side of the graph: sends time steps at a rate and takes the plans."""

    def __init__(self, spec: RobotSpec) -> None:
        import rclpy
        from builtin_interfaces.msg import Time
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions

        from mbrl_msgs.msg import ControllerState, Plan
        from mbrl_msgs.msg import Policy as PolicyMessage
        from mbrl_msgs.msg import RobotSpec as SpecMessage
        from mbrl_msgs.msg import TimeStep as TimeStepMessage
        from mbrl_ros import qos
        from mbrl_ros.conversions import spec_to_message, time_step_to_message

        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self.spec = spec
        self.node = rclpy.create_node("policy_benchmark")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.policies = self.node.create_publisher(PolicyMessage, "policy", qos.LATCHED)
        self.time_steps = self.node.create_publisher(TimeStepMessage, "time_step", qos.TIME_STEP_RECORD)
        self.latched = [
            self.node.create_publisher(SpecMessage, "robot_spec", qos.LATCHED),
            self.node.create_publisher(ControllerState, "controller_state", qos.LATCHED),
        ]
        self.latched[0].publish(spec_to_message(spec, Time()))
        self.latched[1].publish(ControllerState(selected="policy", active="policy", chain=["policy", "safe"]))
        self.arrivals: dict[int, float] = {}
        self.node.create_subscription(Plan, "plan", self._take, qos.STATUS)
        state = np.random.default_rng(0).normal(size=spec.state.size)
        step = TimeStep(1, 1, StepType.MID, state, np.zeros(spec.action.size))
        self.message = time_step_to_message(step, spec.interface_hash, Time())

    def _take(self, message: Any) -> None:
        self.arrivals.setdefault(message.answers_step, time.perf_counter())

    def publish(self, policy: Policy, version: int) -> None:
        """Publishes a policy."""
        from builtin_interfaces.msg import Time

        from mbrl_policy.nodes.policy_message import policy_to_message

        self.policies.publish(policy_to_message(policy, "benchmark", version, Time()))

    def wait(self, process: "subprocess.Popen[bytes]") -> None:
        """Waits until a first time step is answered. Raises TimeoutError."""
        end = time.monotonic() + 60.0
        while not self.arrivals:
            if process.poll() is not None or time.monotonic() > end:
                raise TimeoutError("policy_node answers no time step")
            self.send()
            self.executor.spin_once(timeout_sec=0.2)

    def send(self) -> None:
        """Publishes the next time step."""
        self.message.step += 1
        self.message.sample_time_ns = self.message.publish_time_ns = time.monotonic_ns()
        self.time_steps.publish(self.message)

    def run(self, rate: float, seconds: float, halfway: Callable[[], None] | None = None) -> dict[str, float]:
        """Sends at `rate` Hz for `seconds` after the warm-up; `halfway` is called in the middle."""
        self.arrivals.clear()
        gc.collect()
        gc.freeze()
        gc.disable()
        sent: dict[int, float] = {}
        begin = due = time.perf_counter()
        end = begin + WARM_UP + seconds
        middle = begin + WARM_UP + 0.5 * seconds
        while (now := time.perf_counter()) < end:
            if halfway is not None and now >= middle:
                halfway()
                halfway = None
            elif now >= due:
                # As a control clock does: what the sender itself is late for is left out, not sent in a burst.
                missed = int((now - due) * rate)
                self.message.step += missed
                self.send()
                sent[self.message.step] = time.perf_counter()
                due += (1 + missed) / rate
            else:
                self.executor.spin_once(timeout_sec=due - now)
        gc.enable()
        grace = time.perf_counter() + 0.2
        while time.perf_counter() < grace:
            self.executor.spin_once(timeout_sec=0.02)
        counted = {step: moment for step, moment in sent.items() if moment >= begin + WARM_UP}
        latencies = np.array([self.arrivals.get(step, np.inf) - moment for step, moment in counted.items()])
        arrived = np.sort([moment for step, moment in self.arrivals.items() if step in counted])
        return {
            "sent": len(counted),
            "sent_hz": len(counted) / seconds,
            "answered": float(np.isfinite(latencies).mean()),
            "in_time": float((latencies <= self.spec.max_open_loop_steps / rate).mean()),
            "within_period": float((latencies <= 1.0 / rate).mean()),
            "latency_p50_ms": 1e3 * float(np.quantile(latencies, 0.5, method="higher")),
            "latency_p99_ms": 1e3 * float(np.quantile(latencies, 0.99, method="higher")),
            "longest_gap_ms": 1e3 * float(np.diff(arrived).max()) if len(arrived) > 1 else np.inf,
        }

    def close(self) -> None:
        """Leaves the graph."""
        import rclpy

        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()


def node_rates(seconds: float, seed: int) -> list[dict[str, Any]]:
    """Rows of one rate of one kind each, and of a reload."""
    from ament_index_python.packages import get_package_prefix

    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", "21")
    spec = load_robot(CONFIG / "robots" / "cartpole.yaml").spec
    program = Path(get_package_prefix("mbrl_policy")) / "lib" / "mbrl_policy" / "policy_node"
    rows: list[dict[str, Any]] = []
    sender = Sender(spec)
    process = subprocess.Popen([str(program), "--ros-args", "--log-level", "warn"], start_new_session=True)
    try:
        sender.publish(preset_policy("mlp", spec, seed), 1)
        sender.wait(process)
        for rate in RATES:
            rows.append({"part": "node", "kind": "mlp", "rate": rate, **sender.run(rate, seconds)})
        other = preset_policy("mlp", spec, seed + 1)
        reload = sender.run(WANTED_RATE, seconds, lambda: sender.publish(other, 2))
        rows.append({"part": "reload", "kind": "mlp", "rate": WANTED_RATE, **reload})
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        sender.close()
    return rows


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="./mbrl bench policy", description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000, help="inferences of each kind (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds at each rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and states (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = inference(options.calls, options.seed)
    for row in rows:
        print(
            f"{row['robot']:9} {row['kind']:20} {row['way']:7} p50 {row['p50_us']:6.1f} us, p99 {row['p99_us']:6.1f} us"
        )
    measured = node_rates(options.seconds, options.seed)
    for row in measured:
        print(
            f"{row['part']} {row['rate']:5.0f} Hz: sent {row['sent_hz']:6.1f} Hz,"
            f" in time {100.0 * row['in_time']:6.2f} %, within a period {100.0 * row['within_period']:6.2f} %,"
            f" latency p50 {row['latency_p50_ms']:.2f} ms, p99 {row['latency_p99_ms']:.2f} ms,"
            f" longest gap {row['longest_gap_ms']:.1f} ms"
        )
    bars = [
        bar(
            f"p99_ms_{kind}",
            max(row["p99_us"] for row in rows if row["kind"] == kind and row["way"] == "plan") * 1e-3,
            at_most=1e3 * LONGEST,
        )
        for kind in POLICIES.names()
    ]
    # A rate counts when all lower ones held too; what the sender itself could not send is no evidence.
    sustained = 0.0
    for row in measured:
        if row["part"] != "node" or row["in_time"] < ANSWERED or row["sent_hz"] < SENT * row["rate"]:
            break
        sustained = row["rate"]
    bars.append(bar("sustained_hz", sustained, at_least=WANTED_RATE))
    return report("policy", bars, [*rows, *measured], {"reload_longest_gap_ms": measured[-1]["longest_gap_ms"]})


if __name__ == "__main__":
    sys.exit(main())
