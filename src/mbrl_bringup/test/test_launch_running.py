# SPDX-License-Identifier: Apache-2.0
"""Processes are started, watched and ended; none is left behind, however the launcher ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mbrl_bringup.launch_runner import LaunchRunner

PROGRAMS = {
    # Says who it is and waits. Ends as nodes do.
    "patient": """
import os, signal, sys, time
try:
    print("ready", os.getpid(), *sys.argv[1:])
    time.sleep(60)
except KeyboardInterrupt:
    print("ends on request")
""",
    # Ignores every request, and has a child that does so too.
    "stubborn": """
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if os.fork():
    print("ready", os.getpid(), flush=True)
time.sleep(60)
""",
    "failing": """
import sys
print("goes to the log")
print("goes to the screen", file=sys.stderr)
sys.exit(3)
""",
    # What a node says that is interrupted while it loads its libraries, and what one says that fails at its end.
    "interrupted": "import time; print('ready'); time.sleep(60)",
    "fails_at_end": """
import time
print("ready")
try:
    time.sleep(60)
except KeyboardInterrupt:
    raise ValueError("at the end") from None
""",
    "telling": "import os; print(f\"{os.environ.get('MBRL_TOLD')} {os.environ.get('MBRL_KEPT')}.\")",
    "brief": "import time; time.sleep(0.3)",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ament prefix with a package `programs` that has the programs above."""
    prefix = tmp_path / "prefix"
    markers, programs = prefix / "share/ament_index/resource_index/packages", prefix / "lib/programs"
    markers.mkdir(parents=True)
    programs.mkdir(parents=True)
    (prefix / "share/programs").mkdir()
    (markers / "programs").touch()
    for name, text in PROGRAMS.items():
        file = programs / name
        file.write_text(f"#!{sys.executable} -S\n{text}")
        file.chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{prefix}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}")
    return prefix


@pytest.fixture
def launch(package: Path, tmp_path: Path) -> Iterator[Callable[..., LaunchRunner]]:
    """Makes a started runner of nodes in YAML; lines for the screen go to its attribute `screen`."""
    runners: list[LaunchRunner] = []

    def make(*nodes: str) -> LaunchRunner:
        screen: list[str] = []
        runner = LaunchRunner(_file(tmp_path, *nodes), {}, tmp_path / "log", output=screen.append)
        runner.screen = screen  # type: ignore[attr-defined]
        runners.append(runner)
        runner.start()
        return runner

    yield make
    for runner in runners:
        runner.stop()


def _file(folder: Path, *nodes: str) -> Path:
    file = folder / "it.launch.yaml"
    file.write_text("launch:\n" + "".join(f"  - node: {{pkg: programs, {node}}}\n" for node in nodes))
    return file


def _until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "did not come to pass"
        time.sleep(0.02)


def _log(runner: LaunchRunner) -> str:
    file = runner.log_directory / "launch.log"
    return file.read_text() if file.exists() else ""


def _pids(text: str) -> list[int]:
    return [int(line.split("ready ")[1].split()[0]) for line in text.splitlines() if "ready " in line]


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _group(pid: int) -> list[int]:
    """Living processes of the group that a node leads."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _is_alive(int(entry.name)):
            try:
                if os.getpgid(int(entry.name)) == pid:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found


def test_arguments_reach_the_node_and_its_end_is_asked_for(launch: Callable[..., LaunchRunner]) -> None:
    runner = launch("exec: patient, name: one, namespace: deep/down, output: screen, remap: [{from: a, to: b}]")
    _until(lambda: "ready" in _log(runner))
    assert "-r __node:=one -r __ns:=/deep/down -r a:=b" in _log(runner)
    assert runner.poll() is None
    begin = time.monotonic()
    assert runner.stop() == 0
    assert time.monotonic() - begin < 1.0
    assert "[deep/down/one] ends on request" in _log(runner)
    assert "[deep/down/one] ends on request" in runner.screen  # type: ignore[attr-defined]


def test_nodes_that_ignore_every_request_are_gone_within_three_seconds(launch: Callable[..., LaunchRunner]) -> None:
    runner = launch("exec: stubborn, name: one", "exec: patient, name: two")
    _until(lambda: len(_pids(_log(runner))) == 2)
    pids = _pids(_log(runner))
    stubborn = next(pid for pid in pids if len(_group(pid)) == 2)
    begin = time.monotonic()
    runner.stop()
    assert time.monotonic() - begin < 3.0
    assert not any(_is_alive(pid) for pid in pids)
    assert _group(stubborn) == []


def test_respawn_waits_for_its_delay_and_ends_with_the_launch(launch: Callable[..., LaunchRunner]) -> None:
    runner = launch('exec: failing, name: one, respawn: "true", respawn_delay: 0.3', "exec: patient, name: two")
    begin = time.monotonic()
    _until(lambda: runner.states()[:1] != [] and runner.states()[0].restarts >= 2)
    assert time.monotonic() - begin > 0.3
    runner.stop()
    count = _log(runner).count("goes to the log")
    assert count >= 2
    time.sleep(0.5)
    assert _log(runner).count("goes to the log") == count


def test_a_failed_node_is_reported_and_the_others_go_on(launch: Callable[..., LaunchRunner]) -> None:
    runner = launch("exec: failing, name: one", "exec: patient, name: two")
    _until(lambda: "[one] process has ended with status 3" in _log(runner))
    assert runner.poll() is None
    assert runner.screen.count("[one] goes to the screen") == 1  # type: ignore[attr-defined]
    # With `output: log`, the default, only errors go to the screen.
    assert "[one] goes to the log" not in runner.screen  # type: ignore[attr-defined]
    assert "[one] goes to the log" in _log(runner)
    assert runner.stop() == 1


def test_on_exit_shutdown_ends_the_launch(launch: Callable[..., LaunchRunner]) -> None:
    runner = launch("exec: brief, name: one, on_exit: shutdown", "exec: patient, name: two")
    assert runner.wait(10.0) == 0
    assert "[two] ends on request" in _log(runner)


def test_a_launch_ends_by_itself_when_all_nodes_have(launch: Callable[..., LaunchRunner]) -> None:
    runner = launch("exec: brief, name: one", "exec: brief, name: two")
    assert runner.wait(10.0) == 0


def test_parameter_files_are_there_while_nodes_run_and_gone_afterwards(launch: Callable[..., LaunchRunner]) -> None:
    runner = launch("exec: patient, name: one, param: [{name: a, value: 1.5}]")
    _until(lambda: "ready" in _log(runner))
    file = Path(_log(runner).split("--params-file ")[1].split()[0])
    assert "a: 1.5" in file.read_text()
    runner.stop()
    assert not file.exists()


def test_what_a_file_sets_reaches_its_nodes_and_ends_with_its_group(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBRL_KEPT", "mine")
    file = tmp_path / "it.launch.yaml"
    file.write_text("""launch:
  - set_env: {name: MBRL_TOLD, value: outer}
  - set_env: {name: MBRL_KEPT, value: $(env MBRL_KEPT another)}
  - group:
      - set_env: {name: MBRL_TOLD, value: inner-$(env MBRL_TOLD)}
      - node: {pkg: programs, exec: telling, name: inside}
  - node: {pkg: programs, exec: telling, name: outside}
""")
    with LaunchRunner(file, {}, tmp_path / "log") as runner:
        assert runner.wait(10.0) == 0
    assert "[inside] inner-outer mine." in _log(runner)
    assert "[outside] outer mine." in _log(runner)


LAUNCHER = """
import sys
from pathlib import Path
from mbrl_bringup.launch_runner import LaunchRunner
with LaunchRunner(Path(sys.argv[1]), {}, Path(sys.argv[2])) as runner:
    runner.wait()
"""


def test_nodes_do_not_outlive_a_launcher_that_is_killed(package: Path, tmp_path: Path) -> None:
    file = _file(tmp_path, "exec: stubborn, name: one", "exec: patient, name: two")
    log = tmp_path / "log" / "launch.log"
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(file), str(log.parent)])
    try:
        _until(lambda: log.exists() and len(_pids(log.read_text())) == 2)
    finally:
        launcher.kill()
        launcher.wait()
    groups = _pids(log.read_text())
    _until(lambda: not any(_group(pid) for pid in groups), 3.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_command_and_its_nodes(package: Path, tmp_path: Path, number: signal.Signals) -> None:
    file = _file(tmp_path, "exec: stubborn, name: one, output: screen", "exec: patient, name: two, output: screen")
    command = [sys.executable, "-c", "import sys; from mbrl_bringup.cli import main; sys.exit(main(sys.argv[1:]))"]
    process = subprocess.Popen(
        [*command, "launch", str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MBRL_ROOT": str(tmp_path)},
        # A job of a shell without job control: the interrupt signal is ignored when it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert process.stdout is not None
    pids: list[int] = []
    while len(pids) < 2:
        pids += _pids(process.stdout.readline())
    begin = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    assert time.monotonic() - begin < 3.5
    assert not any(_group(pid) for pid in pids)
    assert "[two] ends on request" in output or number is not signal.SIGINT
    assert list((tmp_path / "runs").glob("*/launch.log"))


def test_only_what_says_more_than_that_it_was_interrupted_is_shown_at_the_end(
    launch: Callable[..., LaunchRunner],
) -> None:
    runner = launch("exec: interrupted, name: one", "exec: fails_at_end, name: two")
    _until(lambda: _log(runner).count("ready") == 2)
    runner.stop()
    screen = "\n".join(runner.screen)  # type: ignore[attr-defined]
    assert "[one] KeyboardInterrupt" in _log(runner)
    assert "[one]" not in screen
    assert "[two] Traceback (most recent call last):" in screen
    assert "[two] ValueError: at the end" in screen
