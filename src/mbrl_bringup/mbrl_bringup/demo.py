# SPDX-License-Identifier: Apache-2.0
"""`./mbrl demo`: one command, and a robot learns to move."""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from mbrl_bringup import handover, plots, summary
from mbrl_bringup.animation import animate
from mbrl_bringup.batch import launch_file
from mbrl_bringup.domains import reserved_domain
from mbrl_bringup.launch_runner.runner import LaunchRunner
from mbrl_bringup.launch_runner.source import LaunchFileError
from mbrl_bringup.results import print_result
from mbrl_bringup.run_files import RunError, read_run
from mbrl_bringup.view import LiveView, PlainView, View, ViewNode

REFRESH_SECONDS = 0.1
SIGNAL_STATUS = 128


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demonstration. Returns the exit status: 0 when all of its criteria hold."""
    started = time.monotonic()
    options = _parse(arguments)
    if os.environ.get("ROS_DOMAIN_ID"):
        return _demonstrate(options, started)
    with reserved_domain() as domain:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        return _demonstrate(options, started)


def _demonstrate(options: argparse.Namespace, started: float) -> int:
    domain = os.environ["ROS_DOMAIN_ID"]
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{options.robot}"
    directory = Path(options.run_directory or Path(os.environ.get("MBRL_ROOT", ".")) / "runs" / name).absolute()
    launch_arguments = {
        "robot": options.robot,
        "mode": "realtime",
        "trials": str(options.trials),
        "seed": str(options.seed),
        "record": "true",
        "run_directory": str(directory),
        **({"algorithm": "distil"} if options.distill else {}),
        **dict(item.split(":=", 1) for item in options.arguments),
    }
    live = not options.headless and sys.stdout.isatty()
    title = f"{options.robot} learns to move{' and distils a policy' if options.distill else ''}"
    view: View = LiveView(f"{title} (ROS_DOMAIN_ID={domain})") if live else PlainView()
    view.note(f"run directory {directory}, ROS_DOMAIN_ID={domain}")
    try:
        status, interrupted = _run(launch_arguments, directory, view, started)
    except LaunchFileError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    finally:
        view.close()
    if interrupted:
        print(f"demo: ended by {signal.Signals(interrupted).name}; what was recorded is in {directory}", flush=True)
        return SIGNAL_STATUS + interrupted
    return _conclude(directory, status)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./mbrl demo",
        description="A simulated robot learns to move, in real time: random trials, then learned ones, and with"
        " --distill trials of a policy that was made of the plans.",
    )
    parser.add_argument("robot", nargs="?", default="cartpole", help="a robot of config/robots (default: cartpole)")
    parser.add_argument("arguments", nargs="*", metavar="NAME:=VALUE", help="further arguments of mbrl.launch.yaml")
    parser.add_argument("--headless", action="store_true", help="plain progress lines instead of the live view")
    parser.add_argument(
        "--distill", action="store_true", help="then make a policy of the plans, and hand the robot over to it"
    )
    parser.add_argument("--trials", type=int, default=5, help="trials in all, the first of them random (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random streams (default: 0)")
    parser.add_argument("--run-directory", default="", help="where results go (default: runs/TIME-ROBOT)")
    options = parser.parse_args(arguments)
    if ":=" in options.robot:
        options.arguments.insert(0, options.robot)
        options.robot = "cartpole"
    for item in options.arguments:
        if ":=" not in item:
            parser.error(f"got {item!r}, expected NAME:=VALUE")
    if options.trials < 1:
        parser.error(f"--trials: got {options.trials}, expected at least 1")
    return options


def _run(launch_arguments: dict[str, str], directory: Path, view: View, started: float) -> tuple[int, int]:
    """Launches everything and shows it until it ends. Returns the exit status, and the signal that ended it or 0."""
    runner = LaunchRunner(launch_file(), launch_arguments, directory, output=view.note)
    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        received.append(number)
        runner.request_stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    runner.start()
    node = ViewNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # A thread of its own: redrawing a terminal must not make messages wait.
    spinner = threading.Thread(target=executor.spin, name="view", daemon=True)
    spinner.start()
    announced = False
    status = None
    while status is None:
        status = runner.wait(REFRESH_SECONDS)
        if node.state.first_motion and not announced:
            announced = True
            view.note(f"first motion after {time.monotonic() - started:.1f} s")
        view.update(node.state)
    executor.shutdown()
    spinner.join(timeout=1.0)
    node.destroy_node()
    rclpy.try_shutdown()
    return status, received[0] if received else 0


def _conclude(directory: Path, status: int) -> int:
    """Summary, pictures and the RESULT line."""
    try:
        run = read_run(directory)
    except RunError as error:
        print(f"demo: {error}; the nodes' output is in {directory / 'launch.log'}", file=sys.stderr)
        return 1
    plots.draw(run)
    animation = animate(directory)
    if isinstance(animation, str):
        print(animation)
    summary.print_summary(run)
    if handover.has_policy_trials(run):
        print(handover.draw(run))
        handover.print_handover(run)
        bars = handover.handover_bars(run)
    else:
        bars = summary.run_bars(run)
    if status != 0:
        print(f"demo: a node has failed; the nodes' output is in {directory / 'launch.log'}", file=sys.stderr)
    return print_result("demo", bars) or status


if __name__ == "__main__":
    sys.exit(main())
