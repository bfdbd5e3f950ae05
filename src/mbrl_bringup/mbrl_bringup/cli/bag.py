# SPDX-License-Identifier: Apache-2.0
"""`./mbrl bag`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .places import find_run

if TYPE_CHECKING:
    from mbrl_policy.data.episodes import Episode, Recording

OUTCOMES = ("unlabelled", "success", "failure")
FORMATS = ("npz", "minari", "lerobot")


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    options = _parser().parse_args(arguments)

    from mbrl_core.specs import SpecError
    from mbrl_core.transition_file import TransitionFileError
    from mbrl_policy.data.exchange import ExchangeError
    from mbrl_ros.bag_reading import BagError

    try:
        return int(_COMMANDS[options.command](options))
    except (BagError, TransitionFileError, ExchangeError, SpecError, OSError) as error:
        print(f"mbrl bag {options.command}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./mbrl bag",
        description="Look into recordings, rearrange them, turn them into other formats. The bags that are read stay as"
        " they are; `recover` alone works in place.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, bags: str, many: bool = False) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        made.add_argument("bags", metavar="BAG", nargs="+" if many else 1, help=bags)
        return made

    bag_help = "a bag's folder, a run's folder, a run's name under runs/, or `latest`"
    info = command("info", "robot, topics, episodes with their labels and gaps, statistics", bag_help, many=True)
    _filters(info)
    info.add_argument("--plot", metavar="FILE", help="also draw the variables of all episodes")
    view = command("view", "the time steps of one episode as a table", bag_help)
    view.add_argument("--episode", type=int, help="its number as `info` shows it (default: the first)")
    view.add_argument("--first", type=int, default=0, help="step to begin with (default: 0)")
    view.add_argument("--count", type=int, default=50, help="lines at most (default: 50)")
    view.add_argument("--plot", metavar="FILE", help="also draw the episode")
    command("recover", "finish the bag of a killed recorder in place, save what is left of a damaged one", bag_help)
    merge = command("merge", "put several bags of one robot into one", bag_help, many=True)
    merge.add_argument("--output", metavar="FOLDER", required=True, help="the new bag")
    split = command("split", "copy chosen episodes into a new bag", bag_help)
    split.add_argument("--output", metavar="FOLDER", required=True, help="the new bag")
    split.add_argument("--episodes", metavar="NUMBERS", help="such as 1,4-6, as `info` shows them")
    _filters(split)
    convert = command(
        "convert", "turn bags into transitions (.npz), a Minari or a LeRobot data set, and those back into a bag",
        "a bag, a file of transitions, or the folder of a data set with --from", many=True,
    )  # fmt: skip
    convert.add_argument("--output", metavar="PATH", required=True, help="what to write: FILE.npz or a folder")
    convert.add_argument("--to", choices=("bag", *FORMATS), help="format (default: npz from a bag, bag from the rest)")
    convert.add_argument(
        "--from", dest="source", choices=("bag", *FORMATS), help="format (default: bag, or npz by name)"
    )
    convert.add_argument("--robot", metavar="FILE", help="robot file or name, where a bag has only joint_states")
    _filters(convert)
    return parser


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--outcome", choices=OUTCOMES, help="only episodes that are labelled so")
    parser.add_argument("--task", help="only episodes of this task in their label")
    parser.add_argument("--discarded", action="store_true", help="those that were discarded, too")


def _bag(name: str) -> Path:
    """A bag by its folder, the folder of its run, or the name of that; `latest` is that of the newest run."""
    found = find_run(name)
    if found is None:
        return Path(name)
    return found / "bag" if (found / "bag").is_dir() and not (found / "metadata.yaml").exists() else found


def _chosen(options: argparse.Namespace, recording: Recording) -> list[Episode]:
    from mbrl_core.demonstrations import Outcome
    from mbrl_policy.data.episodes import select

    outcome = Outcome[options.outcome.upper()] if options.outcome else None
    return select(recording.episodes, outcome, options.discarded, options.task)


def _remarks(remarks: list[str]) -> None:
    for remark in remarks:
        print(f"mbrl bag: {remark}", file=sys.stderr)


def _info(options: argparse.Namespace) -> int:
    from mbrl_bringup import bag_text
    from mbrl_policy.data.episodes import demonstrations_of, read_recording
    from mbrl_policy.data.overview import statistics

    paths = [_bag(name) for name in options.bags]
    print(bag_text.contents(paths), end="\n\n", flush=True)
    recording = read_recording(paths)
    remarks = list(recording.remarks)
    print(bag_text.episodes(recording, paths), end="\n\n", flush=True)
    try:
        demonstrations = demonstrations_of(recording, _chosen(options, recording), remarks)
        print(bag_text.variables(statistics(demonstrations, recording.spec)))
        if options.plot:
            from mbrl_bringup.bag_plots import draw

            print(draw(demonstrations, recording.spec, Path(options.plot)))
    finally:
        _remarks(remarks)
    return 0


def _view(options: argparse.Namespace) -> int:
    from mbrl_bringup import bag_text
    from mbrl_policy.data.episodes import demonstrations_of, read_recording
    from mbrl_ros.bag_reading import BagError

    path = _bag(options.bags[0])
    recording = read_recording(path)
    numbers = [episode.number for episode in recording.episodes]
    wanted = options.episode if options.episode is not None else next(iter(numbers), 0)
    if wanted not in numbers:
        raise BagError(f"{path}: there is no episode {wanted}; there are {', '.join(map(str, numbers)) or 'none'}")
    episode = recording.episodes[numbers.index(wanted)]
    print(bag_text.steps(recording, episode, options.first, options.count))
    if options.plot:
        from mbrl_bringup.bag_plots import draw

        print(draw(demonstrations_of(recording, [episode]), recording.spec, Path(options.plot)))
    return 0


def _recover(options: argparse.Namespace) -> int:
    from mbrl_policy.bags import recover

    path = _bag(options.bags[0])
    print(f"{path}: {recover(path)} messages")
    return 0


def _merge(options: argparse.Namespace) -> int:
    from mbrl_policy.data.rearranging import merge

    _remarks(merge([_bag(name) for name in options.bags], options.output))
    print(options.output)
    return 0


def _split(options: argparse.Namespace) -> int:
    from mbrl_core.demonstrations import Outcome
    from mbrl_policy.data.episodes import select
    from mbrl_policy.data.rearranging import split

    numbers = None if options.episodes is None else _numbers(options.episodes)
    outcome = Outcome[options.outcome.upper()] if options.outcome else None
    chosen = split(
        _bag(options.bags[0]),
        options.output,
        # Whoever names a discarded episode by its number means it.
        lambda item: bool(select([item], outcome, options.discarded or numbers is not None, options.task, numbers)),
    )
    print(f"{options.output}: episodes {', '.join(str(episode.number) for episode in chosen)}")
    return 0


def _numbers(text: str) -> set[int]:
    """Of `1,4-6`."""
    from mbrl_ros.bag_reading import BagError

    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.strip().isdigit() or not (last or first).strip().isdigit():
            raise BagError(f"--episodes {text}: expected numbers and ranges such as 1,4-6")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _convert(options: argparse.Namespace) -> int:
    from mbrl_bringup.bag_conversion import convert

    inputs: list[Any] = [Path(name) if options.source else _bag(name) for name in options.bags]
    source = options.source or ("npz" if inputs[0].suffix == ".npz" else "bag")
    target = options.to or ("npz" if source == "bag" else "bag")
    _remarks(
        convert(inputs, source, Path(options.output), target, options.robot, lambda found: _chosen(options, found))
    )
    print(options.output)
    return 0


_COMMANDS = {
    "info": _info, "view": _view, "recover": _recover, "merge": _merge, "split": _split, "convert": _convert,
}  # fmt: skip
