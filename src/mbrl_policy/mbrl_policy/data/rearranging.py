# SPDX-License-Identifier: Apache-2.0
"""Merges bags into one, and takes episodes out of one. The bags that are read are not changed."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path

from rosbags.interfaces import Connection, ConnectionExtRosbag2, QosDurability
from rosbags.typesys.store import Typestore

from mbrl_policy.data.copying import new_bag, read_raw
from mbrl_policy.data.episodes import Episode, EpisodeStarts, read_recording
from mbrl_policy.data.fields import MessageFields
from mbrl_ros.bag_reading import BagError, connections_of, open_bag

EPISODE_FIELDS = ("episode", "trained_through_episode")
GLOBAL_TOPICS = ("/rosout", "/diagnostics", "/clock", "/tf", "/tf_static", "/parameter_events")
OWN_TYPES = "mbrl_msgs/msg/"
TIME_STEP, LABEL = f"{OWN_TYPES}TimeStep", f"{OWN_TYPES}EpisodeLabel"


class _Follower:
    """Knows while a bag is read which of its episodes a message is of."""

    def __init__(self, episodes: Sequence[Episode]) -> None:
        self._coming = iter(episodes)
        self._current: dict[int, Episode] = {}
        self._starts = EpisodeStarts()

    def see(self, fields: dict[str, int], message_type: str) -> Episode | None:
        """The episode of a message with a field `episode`; None where it is not in the bag."""
        number = fields["episode"]
        if message_type == TIME_STEP and self._starts.begins(number, fields["step"], fields["step_type"]):
            self._current[number] = next(self._coming)
        return self._current.get(number)

    def renumbered(self, fields: dict[str, int]) -> dict[str, int]:
        """New values of the fields that name episodes, of those that change."""
        changes = {}
        for name in EPISODE_FIELDS:
            known = self._current.get(fields.get(name, -1))
            if known is not None and known.number != known.recorded_number:
                changes[name] = known.number
        return changes


def _fields(content: bytes, typestore: Typestore, connection: Connection) -> MessageFields | None:
    """What a message says of its episode; None where it names none."""
    if not connection.msgtype.startswith(OWN_TYPES):
        return None
    names = ("step", "step_type", *EPISODE_FIELDS) if connection.msgtype == TIME_STEP else EPISODE_FIELDS
    found = MessageFields(content, connection.msgtype, typestore, names)
    return found if "episode" in found.values else None


def merge(paths: Sequence[str | Path], output: str | Path) -> list[str]:
    """Puts the messages of several bags of one robot into one, in order of their times of reception.

    Episodes get the numbers that `read_recording` gives them, in every message that names an episode, so labels follow.
    Topics of other namespaces than the first bag's move into that. Everything else stays as it was, byte by byte.
    Returns remarks on what was passed over. Raises BagError.
    """
    bags = [Path(path) for path in paths]
    if len({path.resolve() for path in bags}) < len(bags) or len(bags) < 2:
        raise BagError(f"merge: expected two or more different bags, got {', '.join(map(str, bags)) or 'none'}")
    recording = read_recording(bags)
    followers = {path: _Follower([item for item in recording.episodes if item.bag == path]) for path in bags}
    namespaces = {path: _namespace(path) for path in bags}
    remarks = list(recording.remarks)
    with new_bag(output) as writer:
        for time_ns, path, typestore, connection, content in heapq.merge(*map(_stamped, bags), key=itemgetter(0)):
            fields = _fields(content, typestore, connection)
            if fields is not None:
                episode = followers[path].see(fields.values, connection.msgtype)
                if episode is None and connection.msgtype == LABEL:
                    continue  # in the merged bag it might be taken for another episode's
                content = fields.replaced(followers[path].renumbered(fields.values))
            topic = _moved(connection.topic, namespaces[path], namespaces[bags[0]])
            writer.write(writer.add_copy(connection, topic), time_ns, content)
    return remarks


def _stamped(path: Path) -> Iterator[tuple[int, Path, Typestore, Connection, bytes]]:
    for typestore, connection, time_ns, content in read_raw(path):
        yield time_ns, path, typestore, connection, content


def _namespace(path: Path) -> str:
    """That of the robot in the bag, with a slash at its end."""
    with open_bag(path) as reader:
        return connections_of(reader, path, "robot_spec")[0].topic.rpartition("/")[0] + "/"


def _moved(topic: str, namespace: str, wanted: str) -> str:
    if namespace == wanted or topic in GLOBAL_TOPICS or not topic.startswith(namespace):
        return topic
    return wanted + topic[len(namespace) :]


def split(path: str | Path, output: str | Path, choose: Callable[[Episode], bool]) -> list[Episode]:
    """Copies the episodes that `choose` lets pass into a new bag, with all that was latched before their end.

    Messages that name no episode are kept where they came during one that is chosen. Numbers, times and bytes stay.
    Returns what was chosen. Raises BagError, also where that is nothing.
    """
    recording = read_recording(path)
    chosen = [episode for episode in recording.episodes if choose(episode)]
    spans = [(item.received_ns[0], item.received_ns[-1]) for item in chosen if item.received_ns]
    if not spans:
        known = ", ".join(str(episode.number) for episode in recording.episodes) or "none"
        raise BagError(f"{path}: no episode fits what was asked for; episodes in it: {known}")
    end = max(last for _, last in spans)
    wanted = {id(episode) for episode in chosen}
    follower = _Follower(recording.episodes)
    with new_bag(output) as writer:
        for typestore, connection, time_ns, content in read_raw(path):
            fields = _fields(content, typestore, connection)
            if fields is not None:
                kept = id(follower.see(fields.values, connection.msgtype)) in wanted
            elif _latched(connection):
                kept = time_ns <= end
            else:
                kept = any(first <= time_ns <= last for first, last in spans)
            if kept:
                writer.write(writer.add_copy(connection), time_ns, content)
    return chosen


def _latched(connection: Connection) -> bool:
    extension = connection.ext
    return isinstance(extension, ConnectionExtRosbag2) and any(
        item.durability == QosDurability.TRANSIENT_LOCAL for item in extension.offered_qos_profiles
    )
