# SPDX-License-Identifier: Apache-2.0
"""Whether recorder_node keeps all of what is published, and how much of it when it is killed.

    steady      time steps and plans at 1 kHz and compressed pictures of 640 x 480 (60 kB) at 30 Hz, for five minutes
    raw         the same with uncompressed pictures (0.9 MB), for half a minute
    kills       steady, and the recorder killed (SIGKILL) at a random moment, 20 times; its bag is then recovered

Every message has a number and the publisher notes when it was published. Lost are those that the bag does not have. Of
a killed recorder, what counts was published 0.2 s or more before the kill; how long the publisher was held up then is
told beside. Each bag is opened with rosbags and with mcap, which have to find the same number of messages.

The publisher shares the machine with the recorder and takes about as much of it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _offline import CONFIG
from common import bar, report
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from mbrl_bringup.domains import reserved_domain
from mbrl_policy.bag_writer import make_typestore
from mbrl_policy.bags import recover

ROBOT_FILE = CONFIG / "robots" / "cartpole.yaml"
PUBLISHER = Path(__file__).with_name("_record_publisher.py")
RECORDER = "from mbrl_policy.nodes.executables import recorder_node; recorder_node()"
RATE, PICTURE_RATE = 1000.0, 30.0
GRACE_NS = 200_000_000
WANTED_RATE = 0.98  # of RATE, at least, that the publisher itself has to keep up
PATIENCE = 60.0


class Session:
    """A recorder and a publisher in a ROS domain of their own."""

    def __init__(self, folder: Path, raw: bool, domain: int) -> None:
        self._notes = folder / "published.json"
        self.bag = folder / "run" / "bag"
        environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        kind = "camera/raw sensor_msgs/msg/Image" if raw else "camera/compressed sensor_msgs/msg/CompressedImage"
        values = {"robot_file": ROBOT_FILE, "run_directory": folder / "run", "topics": f"['{kind}']"}
        arguments = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
        self.recorder = subprocess.Popen(
            [sys.executable, "-c", RECORDER, "--ros-args", *arguments], env=environment, stderr=subprocess.DEVNULL
        )
        command = [sys.executable, str(PUBLISHER), "--robot-file", str(ROBOT_FILE), "--notes", str(self._notes)]
        command += ["--rate", str(RATE), "--picture-rate", str(PICTURE_RATE), *(["--raw"] if raw else [])]
        self.publisher = subprocess.Popen(command, env=environment)

    def wait_for_messages(self) -> None:
        """Until the bag grows beyond what is said once."""
        end = time.monotonic() + PATIENCE
        files = self.bag / "bag.mcap"
        while not (files.exists() and files.stat().st_size > 300_000):
            if time.monotonic() > end or self.recorder.poll() is not None:
                raise TimeoutError(f"nothing is recorded into {self.bag}")
            time.sleep(0.05)

    def stop_publisher(self) -> dict[str, Any]:
        """Ends it; what it has noted."""
        self.publisher.send_signal(signal.SIGTERM)
        self.publisher.wait(PATIENCE)
        return json.loads(self._notes.read_text(encoding="utf-8"))

    def close(self) -> None:
        """Ends what still runs."""
        for process in (self.publisher, self.recorder):
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def session(raw: bool = False) -> Iterator[Session]:
    """A session in a folder that is removed after it."""
    with tempfile.TemporaryDirectory() as folder, reserved_domain() as domain:
        made = Session(Path(folder), raw, domain)
        try:
            yield made
        finally:
            made.close()


def numbers_in(bag: Path) -> tuple[dict[str, set[int]], int]:
    """Numbers of the messages by stream, and how many messages the bag has in all, as rosbags reads it."""
    found: dict[str, set[int]] = {"time_step": set(), "plan": set(), "picture": set()}
    count = 0
    with AnyReader([bag], default_typestore=make_typestore()) as reader:
        for connection, _, content in reader.messages():
            count += 1
            name = connection.topic.rpartition("/")[2]
            if name == "time_step":
                found[name].add(reader.deserialize(content, connection.msgtype).step)
            elif name == "plan":
                found[name].add(reader.deserialize(content, connection.msgtype).answers_step)
            elif name in ("raw", "compressed"):
                found["picture"].add(int(reader.deserialize(content, connection.msgtype).header.frame_id))
    return found, count


def counted_by_mcap(bag: Path) -> int:
    """How many messages the mcap library finds."""
    with open(bag / "bag.mcap", "rb") as stream:
        return sum(1 for _ in make_reader(stream).iter_messages())


def judged(name: str, bag: Path, noted: dict[str, Any], until_ns: float = float("inf")) -> dict[str, Any]:
    """A row: of what was published until then, how much the bag lacks."""
    found, count = numbers_in(bag)
    steps = np.array([when for when in noted["times"]["time_step"] if when <= until_ns])
    pauses = np.diff(noted["times"]["time_step"]) / 1e6
    row: dict[str, Any] = {"case": name, "published_rate": round(float(1e9 / np.diff(steps).mean()), 1)}
    # Who is killed while it holds a lock of the middleware's shared memory holds up those who publish to it.
    row["longest_pause_ms"] = round(float(pauses.max()), 1)
    published = lost = 0
    for stream, times in noted["times"].items():
        expected = {number for number, when in enumerate(times) if when <= until_ns}
        row[f"{stream}_published"], row[f"{stream}_lost"] = len(expected), len(expected - found[stream])
        published, lost = published + len(expected), lost + len(expected - found[stream])
    row |= {"published": published, "lost": lost, "kept": 1.0 - lost / max(published, 1)}
    row["readers_disagree"] = int(counted_by_mcap(bag) != count)
    print(f"{name}: {row}", flush=True)
    return row


def run_whole(name: str, seconds: float, raw: bool) -> dict[str, Any]:
    """Records for so long and stops in order."""
    with session(raw) as running:
        running.wait_for_messages()
        time.sleep(seconds)
        noted = running.stop_publisher()
        time.sleep(1.0)
        running.recorder.send_signal(signal.SIGTERM)
        if running.recorder.wait(PATIENCE) != 0:
            raise RuntimeError("the recorder did not end in order")
        return judged(name, running.bag, noted)


def run_killed(index: int, seconds: float) -> dict[str, Any]:
    """Kills the recorder after so long."""
    with session() as running:
        running.wait_for_messages()
        time.sleep(seconds)
        killed_ns = time.time_ns()
        running.recorder.kill()
        running.recorder.wait()
        noted = running.stop_publisher()
        recover(running.bag)
        return {**judged(f"kill {index}", running.bag, noted, killed_ns - GRACE_NS), "seconds": round(seconds, 3)}


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="of the steady case (default: 300)")
    parser.add_argument("--raw-seconds", type=float, default=30.0, help="of the raw case (default: 30)")
    parser.add_argument("--kills", type=int, default=20, help="number of kills (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills (default: 0)")
    options = parser.parse_args()
    if options.kills < 1 or min(options.seconds, options.raw_seconds) <= 0.0:
        parser.error("expected positive --seconds and --raw-seconds and at least one of --kills")
    random = np.random.default_rng(options.seed)
    kills = [run_killed(index, float(random.uniform(0.5, 5.0))) for index in range(options.kills)]
    raw = run_whole("raw", options.raw_seconds, raw=True)
    steady = run_whole("steady", options.seconds, raw=False)
    rows = [steady, raw, *kills]
    bars = [
        bar("lost_in_steady", steady["lost"], at_most=0),
        bar("lost_in_raw", raw["lost"], at_most=0),
        bar("kept_at_the_worst_kill", min(row["kept"] for row in kills), at_least=0.999),
        bar("bags_that_readers_disagree_on", sum(row["readers_disagree"] for row in rows), at_most=0),
        bar("least_published_rate", min(row["published_rate"] for row in rows) / RATE, at_least=WANTED_RATE),
    ]
    figures = {"longest_pause_of_the_publisher_at_a_kill_ms": max(row["longest_pause_ms"] for row in kills)}
    return report("record", bars, rows, figures)


if __name__ == "__main__":
    sys.exit(main())
