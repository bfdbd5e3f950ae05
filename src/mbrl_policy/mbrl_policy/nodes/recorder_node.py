# SPDX-License-Identifier: Apache-2.0
"""Records everything that is needed to re-create a run as rosbag2."""

import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.interfaces import Connection

from mbrl_core.config import ConfigurationError, parameter
from mbrl_core.robot_file import load_robot
from mbrl_msgs.msg import EpisodeLabel, TimeStep
from mbrl_msgs.srv import Record
from mbrl_policy.bag_writer import BagWriter
from mbrl_policy.nodes.intake import Intake
from mbrl_policy.nodes.recorded_topics import LABELS, as_offered, extra_topics, topics_of_a_run
from mbrl_ros import parameters, process, qos
from mbrl_ros.health import Health
from mbrl_ros.lifecycle import ManagedNode
from mbrl_ros.steady import steady_timer
from mbrl_ros.workload import Workload

# What is younger than this may be lost when the process is killed, and what came since the last look at what waits.
FLUSH_PERIOD = 0.1
# Messages wait in the middleware until then: to be woken up by each costs several times as much.
TAKE_PERIOD = 0.02
# Messages taken at once, so that the service and the flushes get their turn.
TAKE_LIMIT = 1000
SPACE_PERIOD = 1.0
SEARCH_PERIOD = 0.2
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class RecorderConfig:
    """Parameters of the recorder."""

    robot_file: str = parameter("", "Path of the robot file; names the command topic")
    run_directory: str = parameter("", "Folder of the run; the bag is `bag` in it, or `bag_1` ... when that exists")
    record_at_once: bool = parameter(True, "Record from activation on; false waits for the service `record`")
    topics: tuple[str, ...] = parameter((), "Topics to record beside the suite's own, each 'NAME PACKAGE/msg/TYPE'")
    minimum_free_space: float = parameter(
        200.0, "Free space on the disk, MB, below which no recording starts or goes on", minimum=0.0
    )


class RecorderNode(ManagedNode):
    """Writes raw messages with the times at which they came. A full disk ends the recording, never the node.

    The service `record` opens and finishes bags and labels episodes. What is latched is written into each bag anew.
    """

    def __init__(self) -> None:
        super().__init__("recorder")
        self._bag: BagWriter | None = None  # first: a node that is refused its configuration is destroyed as well
        self._config = parameters.declare(self, RecorderConfig)
        parameters.finish(self)
        if not self._config.run_directory:
            raise ConfigurationError("parameter 'run_directory': got '', expected the folder of the run")
        own = topics_of_a_run(load_robot(self._config.robot_file).command_topic)
        extra = extra_topics(self._config.topics)
        self._topics = [*own, *extra]
        # Of these, somebody else decides the quality of service: they are listened to once they have publishers.
        self._awaited = set(range(len(own), len(own) + len(extra)))
        self._names = [topic.name for topic in self._topics]
        twice = [name for name in self._names if self._names.count(name) > 1]
        if twice:
            raise ConfigurationError(f"parameter 'topics': {twice[0]!r} is recorded anyway, expected each topic once")
        self._health = Health(self)
        self._work = Workload("take", TAKE_PERIOD)
        self._health.follow(self._figures)
        self._intake = Intake(self)
        self._listening = False
        self._offered = 0
        self._recorded_before = 0
        self._connections: dict[int, Connection] = {}
        self._latched: dict[tuple[int, bytes], bytes] = {}
        self._newest_step: bytes | None = None
        self._own_labels: list[EpisodeLabel] = []  # written, and to come back by the topic
        self._labels = self.create_publisher(EpisodeLabel, LABELS, qos.STATUS)
        self.create_service(Record, "record", self._on_record)
        steady_timer(self, TAKE_PERIOD, self._take_in_time)
        steady_timer(self, FLUSH_PERIOD, self._flush)
        steady_timer(self, SPACE_PERIOD, self._watch_space)
        if extra:
            steady_timer(self, SEARCH_PERIOD, self._look_for_publishers)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Opens a new bag, unless the service is to do so."""
        problem = ""
        if self._config.record_at_once:
            problem = self._begin()
        else:
            self._health.ok("waiting for the service record")
        self._listen()
        return TransitionCallbackReturn.FAILURE if problem else super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finishes the bag."""
        self._finish_with_what_waits()
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finishes the bag."""
        self._finish_with_what_waits()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Finishes the bag."""
        self._finish_with_what_waits()
        super().destroy_node()

    # --- topics ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Subscribes, once the bag is open or has been reported as impossible: whom others find listening is ready."""
        if self._listening:
            return
        self._listening = True
        for index in range(len(self._topics)):
            if index not in self._awaited:
                self._subscribe(index)

    def _subscribe(self, index: int) -> None:
        topic = self._topics[index]
        self._intake.subscribe(index, topic.message_class, topic.name, topic.profile)

    def _look_for_publishers(self) -> None:
        if not self._listening:
            return
        for index in sorted(self._awaited):
            topic = self._topics[index]
            found = self.get_publishers_info_by_topic(self.resolve_topic_name(topic.name))
            if found:
                self._awaited.discard(index)
                self._topics[index] = as_offered(topic, [publisher.qos_profile for publisher in found])
                if self._bag is not None:
                    self._add_topic(self._bag, index)
                self._subscribe(index)

    def _take_in_time(self) -> None:
        with self._work.piece():
            self._take()

    def _take(self) -> int:
        """Records messages that wait, up to the limit; returns how many."""
        taken = 0
        for index, received_ns, content in self._intake.take(TAKE_LIMIT):
            taken += 1
            name = self._names[index]
            if name == LABELS and self._is_own(content):
                continue
            if name == "time_step":
                self._newest_step = content
            elif self._topics[index].latched:
                # Several planners tell their settings on one topic.
                self._latched[index, content if name == "planner_settings" else b""] = content
            self._offered += 1
            self._write(index, received_ns, content)
        return taken

    def _take_all(self) -> None:
        """Records all messages that wait; those that come meanwhile cannot keep it going for ever."""
        for _ in self._topics:
            if self._take() < TAKE_LIMIT:
                return

    def _is_own(self, content: bytes) -> bool:
        """Whether it is a label of this node's own, which has been written before it was published."""
        label = deserialize_message(content, EpisodeLabel)
        if label not in self._own_labels:
            return False
        self._own_labels.remove(label)
        return True

    def _write(self, index: int, time_ns: int, content: bytes) -> None:
        if self._bag is None:
            return
        try:
            self._bag.write(self._connections[index], time_ns, content)
        except OSError as error:
            self._stop_recording(error)

    # --- the service ----------------------------------------------------------------------------------------------

    def _on_record(self, request: Record.Request, response: Record.Response) -> Record.Response:
        # What came before the request belongs to the time before it.
        self._take_all()
        if request.command == Record.Request.START:
            response.message = "" if self._bag is not None else self._begin()
        elif request.command == Record.Request.STOP:
            response.bag = str(self._bag.path) if self._bag is not None else ""
            self._finish()
            self._health.ok("waiting for the service record")
        elif request.command == Record.Request.LABEL:
            response.message = self._label(request.label)
            response.episode = request.label.episode
        else:
            response.message = f"record: command {request.command}, expected 1 (START), 2 (STOP) or 3 (LABEL)"
        if self._bag is not None:
            response.bag = str(self._bag.path)
        response.success = not response.message
        if response.message:
            self._health.refuse("record", response.message)
        return response

    def _label(self, label: EpisodeLabel) -> str:
        """Writes a label and tells others; returns why not."""
        if self._bag is None:
            return "record: nothing is being recorded; a label needs a bag that is open: START first, label before STOP"
        outcomes = (EpisodeLabel.UNLABELLED, EpisodeLabel.SUCCESS, EpisodeLabel.FAILURE)
        if label.outcome not in outcomes:
            return f"record: outcome {label.outcome}, expected 0 (UNLABELLED), 1 (SUCCESS) or 2 (FAILURE)"
        newest = 0 if self._newest_step is None else deserialize_message(self._newest_step, TimeStep).episode
        if newest == 0 or label.episode > newest:
            known = "none has been heard of" if newest == 0 else f"the newest is {newest}"
            return f"record: episode {label.episode}, expected one that there has been; {known}"
        label.episode = label.episode or newest
        label.version = EpisodeLabel.VERSION
        label.header.stamp = self.get_clock().now().to_msg()
        self._offered += 1
        self._write(self._names.index(LABELS), time.time_ns(), serialize_message(label))
        self._flush()
        if self._bag is None:
            return "record: the label did not fit on the disk"
        self._own_labels.append(label)
        self._labels.publish(label)
        return ""

    # --- the bag --------------------------------------------------------------------------------------------------

    def _begin(self) -> str:
        """Opens a bag; returns why not."""
        directory = Path(self._config.run_directory)
        try:
            path = _free_name(directory)
            short = self._lack_of_space()
            if short:
                self._health.refuse("disk", short)
                self._health.error(f"not recording: {short}")
                return short
            self._bag = BagWriter(path)
            for index in range(len(self._topics)):
                if index not in self._awaited:
                    self._add_topic(self._bag, index)
        except OSError as error:
            self._stop_recording(error)
            return f"recording in {directory}: {error.strerror}"
        # Whoever reads this bag alone needs what was said once and for all.
        for (index, _), content in self._latched.items():
            self._offered += 1
            self._write(index, time.time_ns(), content)
        self.get_logger().info(f"recording into {path}")
        self._health.ok("recording")
        return ""

    def _add_topic(self, bag: BagWriter, index: int) -> None:
        topic = self._topics[index]
        self._connections[index] = bag.add_topic(self.resolve_topic_name(topic.name), topic.type_name, topic.bag_qos())

    def _flush(self) -> None:
        if self._bag is not None:
            try:
                self._bag.flush()
            except OSError as error:
                self._stop_recording(error)

    def _figures(self) -> dict[str, Any]:
        """For /diagnostics."""
        recorded = self._recorded_before + (self._bag.recorded if self._bag else 0)
        try:
            free = shutil.disk_usage(self._config.run_directory).free / MEGABYTE
        except OSError:
            free = math.nan
        counts = {"offered": self._offered, "recorded": recorded, "recording": self._bag is not None}
        return self._work.figures() | counts | {"free_space_mb": free}

    def _watch_space(self) -> None:
        if self._bag is None:
            return
        short = self._lack_of_space()
        if short:
            self._health.refuse("disk", short)
            self._health.error(f"not recording any more: {short}; what was recorded before stays readable")
            self._finish()

    def _lack_of_space(self) -> str:
        """What is short of free space, or nothing."""
        directory = Path(self._config.run_directory)
        free = shutil.disk_usage(directory).free / MEGABYTE
        if free >= self._config.minimum_free_space:
            return ""
        return f"{directory}: {free:.0f} MB free, expected at least {self._config.minimum_free_space:g} MB"

    def _stop_recording(self, error: OSError) -> None:
        where = self._config.run_directory
        self._health.refuse("disk", f"recording in {where}: {error.strerror}; expected room for the bag")
        self._health.error(f"not recording: {error.strerror} in {where}; what was recorded before stays readable")
        self._finish()

    def _finish_with_what_waits(self) -> None:
        if self._bag is not None:
            self._take_all()
            self._finish()

    def _finish(self) -> None:
        if self._bag is None:
            return
        bag, self._bag = self._bag, None
        try:
            bag.close()
        except OSError as error:
            self._health.error(f"{bag.path} could not be finished: {error}; `./mbrl bag recover` finishes it")
        self._recorded_before += bag.recorded
        self.get_logger().info(f"{bag.path}: {bag.recorded} of {self._offered} messages recorded")


def _free_name(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    names = ["bag"] + [f"bag_{number}" for number in range(1, 10_000)]
    return next(directory / name for name in names if not (directory / name).exists())


def main() -> int:
    """Runs the node; returns the exit status."""
    return process.run(RecorderNode)
