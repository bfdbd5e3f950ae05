# SPDX-License-Identifier: Apache-2.0
"""What waits in subscriptions is taken whole, in the order in which it came, and wakes nobody."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Float64, String

from mbrl_policy.nodes.intake import Intake
from mbrl_ros.qos import STATUS

NAMES, NUMBERS = 3, 5


@dataclass
class Graph:
    """One node that publishes and one that takes."""

    publisher: Node
    taker: Node
    intake: Intake
    send: dict[int, Callable[[int], None]]


@pytest.fixture
def graph(free_domain: int) -> Iterator[Graph]:
    contexts = [rclpy.Context(), rclpy.Context()]
    for context in contexts:
        rclpy.init(context=context, domain_id=free_domain)
    publisher = rclpy.create_node("publisher", context=contexts[0])
    taker = rclpy.create_node("taker", context=contexts[1])
    names = publisher.create_publisher(String, "names", STATUS)
    numbers = publisher.create_publisher(Float64, "numbers", STATUS)
    intake = Intake(taker)
    intake.subscribe(NUMBERS, Float64, "numbers", STATUS)
    intake.subscribe(NAMES, String, "names", STATUS)
    send = {
        NAMES: lambda value: names.publish(String(data=str(value))),
        NUMBERS: lambda value: numbers.publish(Float64(data=float(value))),
    }

    arrived: set[int] = set()

    def both_arrive() -> bool:
        for function in send.values():
            function(0)
        time.sleep(0.1)
        arrived.update(key for key, _, _ in intake.take(1000))
        return arrived == set(send)

    until(both_arrive)
    yield Graph(publisher, taker, intake, send)
    for node, context in zip((publisher, taker), contexts, strict=True):
        node.destroy_node()
        rclpy.shutdown(context=context)


def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"waited {timeout} s"
        time.sleep(0.01)


def test_messages_come_in_the_order_of_reception_whatever_the_limit(graph: Graph) -> None:
    order = [NAMES, NUMBERS, NUMBERS, NAMES, NAMES, NAMES, NUMBERS] * 30
    before_ns = time.time_ns()
    for value, key in enumerate(order):
        graph.send[key](value)
        time.sleep(0.002)  # two topics have no order between them closer than this
    time.sleep(0.5)
    after_ns = time.time_ns()
    assert list(graph.intake.take(0)) == []
    taken = list(graph.intake.take(17))
    assert len(taken) == 17
    taken += graph.intake.take(1000)
    assert [key for key, _, _ in taken] == order
    times = [received_ns for _, received_ns, _ in taken]
    assert times == sorted(times)
    assert before_ns <= times[0] <= times[-1] < after_ns - 400_000_000
    assert list(graph.intake.take(1000)) == []
    graph.send[NAMES](0)
    time.sleep(0.2)
    assert [key for key, _, _ in graph.intake.take(1000)] == [NAMES]


def test_messages_wake_no_executor(graph: Graph) -> None:
    executor = SingleThreadedExecutor(context=graph.taker.context)
    executor.add_node(graph.taker)
    executor.spin_once(timeout_sec=0.0)
    for value in range(20):
        graph.send[NUMBERS](value)
    begin = time.monotonic()
    executor.spin_once(timeout_sec=0.5)
    assert time.monotonic() - begin >= 0.45
    assert len(list(graph.intake.take(1000))) == 20
    executor.shutdown()
