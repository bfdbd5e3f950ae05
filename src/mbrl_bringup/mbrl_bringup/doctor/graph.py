# SPDX-License-Identifier: Apache-2.0
"""Checks of a running system, on what was seen of it: pure functions of a `Snapshot`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .finding import ATTENTION, WELL, WRONG, Finding

SLOW = 0.9  # of the rate that a robot says it has
# Without whom nothing moves: topic (its last part), who publishes it, what to do where nobody does.
SOURCES = {
    "joint_states": ("the backend", "start the simulation or the joint state broadcaster"),
    "time_step": ("robot_node", "start robot_node: `./mbrl launch`"),
    "plan": ("a planner, policy or person", "start planner_node, policy_node or teleop_node"),
    "model": ("the learner", "start learner_node, or give the planner a checkpoint"),
    "task": ("the experiment", "start experiment_node; `reward:=FILE` takes a learned one"),
}
WATCHDOG = "watchdog"  # node that may publish commands beside their owner: it is silent while the owner is not
# Of these there is one owner; with two, each undoes what the other does.
OWNED = ("time_step", "robot_spec", "controller_state", "task", "joint_states", "clock")


@dataclass(frozen=True)
class Endpoint:
    """A publisher or subscription: its node's full name, its topic, whether it is reliable and transient local."""

    node: str
    topic: str
    kind: str
    reliable: bool
    latched: bool


@dataclass(frozen=True)
class Status:
    """What a node says of itself on /diagnostics."""

    node: str
    level: int
    message: str
    values: dict[str, str]


@dataclass(frozen=True)
class Snapshot:
    """What was seen in `seconds`: nodes by full name, with repetitions; messages counted by topic; `periods` are those
    that robots announce, s, by topic of their time steps, and `moving` those whose episode runs.
    """

    seconds: float
    nodes: Sequence[str] = ()
    publishers: Sequence[Endpoint] = ()
    subscriptions: Sequence[Endpoint] = ()
    statuses: Sequence[Status] = ()
    counts: dict[str, int] = field(default_factory=dict)
    periods: dict[str, float] = field(default_factory=dict)
    moving: Sequence[str] = ()


def graph_findings(seen: Snapshot) -> list[Finding]:
    """Everything that can be said of it, what is wrong as well as what is well."""
    if not seen.nodes:
        return [Finding(ATTENTION, "no node is running in this domain", "`./mbrl launch`, or another ROS_DOMAIN_ID")]
    found = [Finding(WELL, f"{len(set(seen.nodes))} nodes are running: {', '.join(sorted(set(seen.nodes)))}")]
    return found + _names(seen) + _missing(seen) + _owners(seen) + _profiles(seen) + _own_words(seen) + _rates(seen)


def _names(seen: Snapshot) -> list[Finding]:
    return [
        Finding(
            WRONG, f"{count} nodes are named {name}",
            "two launches in one domain? Stop one, or give it a namespace or a domain of its own",
        )
        for name, count in sorted(Counter(seen.nodes).items())
        if count > 1
    ]  # fmt: skip


def _missing(seen: Snapshot) -> list[Finding]:
    heard = {endpoint.topic for endpoint in seen.publishers}
    found = []
    for topic in sorted({endpoint.topic for endpoint in seen.subscriptions}):
        last = topic.rsplit("/", 1)[-1]
        if topic in heard or last not in SOURCES:
            continue
        who, advice = SOURCES[last]
        waiting = ", ".join(sorted({each.node for each in seen.subscriptions if each.topic == topic}))
        # Planners go without a learner where their model is known or comes from a file, a robot without plans is safe.
        level = WRONG if last in ("joint_states", "time_step") else ATTENTION
        found.append(Finding(level, f"nobody publishes {topic}, needed by {waiting}: {who} is not there", advice))
    return found


def _owners(seen: Snapshot) -> list[Finding]:
    found = []
    for topic in sorted({endpoint.topic for endpoint in seen.publishers}):
        nodes = [endpoint.node for endpoint in seen.publishers if endpoint.topic == topic]
        command = topic.endswith("/commands")
        if command:
            nodes = [node for node in nodes if node.rsplit("/", 1)[-1] != WATCHDOG]
        if len(nodes) > 1 and (command or topic.rsplit("/", 1)[-1] in OWNED):
            found.append(
                Finding(
                    WRONG, f"{len(nodes)} publish {topic}: {', '.join(sorted(nodes))}",
                    "they command one robot against each other: stop one" if command else "it has one owner: stop one",
                )
            )  # fmt: skip
    return found


def _profiles(seen: Snapshot) -> list[Finding]:
    """Who can never hear whom (quality of service) or understand (type)."""
    found = []
    for reader in seen.subscriptions:
        for writer in seen.publishers:
            if writer.topic != reader.topic:
                continue
            if writer.kind != reader.kind:
                why, advice = (
                    f"{writer.kind} is published, {reader.kind} expected",
                    "one of the two is of another version",
                )
            elif reader.reliable and not writer.reliable:
                why, advice = "it is reliable, the publisher best effort", "make the publisher reliable"
            elif reader.latched and not writer.latched:
                why, advice = "it is transient local, the publisher volatile", "make the publisher transient local"
            else:
                continue
            found.append(Finding(WRONG, f"{reader.node} never hears {writer.node} on {reader.topic}: {why}", advice))
    return found


def _own_words(seen: Snapshot) -> list[Finding]:
    """What nodes report of themselves, and the inputs that they refused."""
    found = []
    for status in sorted(seen.statuses, key=lambda status: status.node):
        if status.level > 0:
            level = WRONG if status.level > 1 else ATTENTION
            found.append(Finding(level, f"{status.node} says: {status.message}"))
        refused = {
            key.removeprefix("refused/"): value for key, value in status.values.items() if key.startswith("refused/")
        }
        if refused:
            told = ", ".join(f"{kind} {count} times" for kind, count in sorted(refused.items()))
            found.append(
                Finding(ATTENTION, f"{status.node} has refused: {told}", "its log names the topic, what came and why")
            )
    return found


def _rates(seen: Snapshot) -> list[Finding]:
    """Of time steps, where an episode ran all the while."""
    found = []
    for topic, period in sorted(seen.periods.items()):
        if topic not in seen.moving:
            found.append(Finding(WELL, f"{topic}: no episode is running"))
            continue
        rate, expected = seen.counts.get(topic, 0) / seen.seconds, 1.0 / period
        told = f"{topic} comes {rate:.3g} times a second, expected {expected:.3g}"
        if rate < SLOW * expected:
            found.append(Finding(WRONG, told, "the machine is too slow or busy, or the backend's clock stands still"))
        else:
            found.append(Finding(WELL, told))
    return found
