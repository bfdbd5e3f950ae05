# SPDX-License-Identifier: Apache-2.0
"""`./mbrl` and the set-up behind it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))

from mbrl_bringup import cli  # noqa: E402
from mbrl_setup import environment, handover, system, workspace  # noqa: E402
from mbrl_setup.clean import clean  # noqa: E402
from mbrl_setup.lock import exclusive  # noqa: E402
from mbrl_setup.main import COMMANDS  # noqa: E402
from mbrl_setup.places import Places, SetupError  # noqa: E402
from mbrl_setup.progress import Progress  # noqa: E402
from mbrl_setup.stamps import Stamps  # noqa: E402


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what set-up reads, without any environment."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    package = Path("src/mbrl_bringup")
    shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "test"))
    shutil.copytree(ROOT / "src/mbrl_msgs", root / "src/mbrl_msgs")
    for folder in ("launch", "config"):
        shutil.copytree(ROOT / folder, root / folder)
    for file in (ROOT / "mbrl", *ROOT.glob("requirements*.txt")):
        shutil.copy2(file, root)
    return root


def _mbrl(root: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(root / "mbrl"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("command", ["", *COMMANDS, "setup", "clean"])
def test_every_command_has_help_that_sets_nothing_up(checkout: Path, command: str) -> None:
    result = _mbrl(checkout, *command.split(), "--help")
    assert result.returncode == 0, result.stderr
    assert "usage: ./mbrl" in result.stdout.lower()
    assert command in result.stdout
    assert not (checkout / ".mbrl").exists()


def test_an_unknown_command_names_those_that_exist(checkout: Path) -> None:
    result = _mbrl(checkout, "dmeo")
    assert result.returncode == 2
    assert "'dmeo'" in result.stderr
    assert all(command in result.stderr for command in (*COMMANDS, "setup", "clean"))
    assert not (checkout / ".mbrl").exists()


def test_both_halves_of_the_command_line_know_the_same_commands() -> None:
    assert sorted(COMMANDS) == sorted(cli.COMMANDS)


def test_an_unsupported_python_is_refused(checkout: Path) -> None:
    result = _mbrl(checkout, "setup", MBRL_PYTHON="/bin/false")
    assert result.returncode == 1
    assert "MBRL_PYTHON=/bin/false is none of these" in result.stderr
    assert "apt-get install" in result.stderr


def test_it_runs_by_way_of_a_link_from_elsewhere(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(checkout / "mbrl")
    result = subprocess.run([tmp_path / "linked", "clean"], cwd="/", capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "mbrl: nothing to remove\n")


def test_a_missing_compiler_is_named_with_the_command_that_installs_it(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "apt-get").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", str(programs))
    assert "g++" in system.missing_packages()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with Progress(Places(checkout)) as progress, pytest.raises(SetupError, match=r"sudo apt-get install .*g\+\+"):
        system.provide(progress)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with Progress(Places(checkout)) as progress, pytest.raises(SetupError, match=r"setup\.log"):
        system.provide(progress)


def test_a_failed_step_shows_its_last_lines_and_names_the_log(checkout: Path) -> None:
    places = Places(checkout)
    with Progress(places) as progress, pytest.raises(SetupError) as failure:
        progress.run(["/bin/sh", "-c", "echo the reason; exit 1"], os.environ, purpose="Trying")
    assert "Trying failed" in str(failure.value)
    assert "the reason" in str(failure.value)
    assert str(places.log) in str(failure.value)
    assert "the reason" in places.log.read_text()


def test_only_changes_that_need_a_build_change_a_package_key(checkout: Path) -> None:
    places = Places(checkout)
    before = workspace.package_keys(places)
    assert set(before) == {"mbrl_bringup", "mbrl_msgs"}
    package = checkout / "src/mbrl_bringup"
    (package / "mbrl_bringup/__init__.py").write_text("changed = True\n")
    (package / "test").mkdir()
    (package / "test/test_new.py").touch()
    assert workspace.package_keys(places) == before
    (checkout / "config/robots/new.yaml").touch()
    after = workspace.package_keys(places)
    assert after["mbrl_bringup"] != before["mbrl_bringup"]
    assert after["mbrl_msgs"] == before["mbrl_msgs"]
    message = next((checkout / "src/mbrl_msgs/msg").glob("*.msg"))
    message.write_text(message.read_text() + "float64 more\n")
    assert workspace.package_keys(places)["mbrl_msgs"] != before["mbrl_msgs"]


def test_stamps_follow_requirements_and_survive_an_interruption(checkout: Path) -> None:
    places = Places(checkout)
    places.state.mkdir()
    assert Stamps.present(places) == Stamps()
    wanted = Stamps.wanted(places)
    wanted.write(places)
    assert Stamps.present(places).packages == {}  # not there, whatever the file says
    for name in wanted.packages:
        (places.build / name).mkdir(parents=True)
        (places.install / name).mkdir(parents=True)
    assert Stamps.present(places) == wanted
    with open(checkout / "requirements.txt", "a") as file:
        file.write("# changed\n")
    changed = Stamps.wanted(places)
    assert changed.ros == wanted.ros
    assert changed.libraries != wanted.libraries
    with open(checkout / "requirements-ros.txt", "a") as file:
        file.write("# changed\n")
    assert Stamps.wanted(places).ros != wanted.ros
    content = places.stamps.read_text()
    places.stamps.write_text(content[: len(content) // 2])
    assert Stamps.present(places) == Stamps()


def test_every_requirement_is_pinned_and_pinned_once_a_python_version() -> None:
    seen = set()
    for file in ROOT.glob("requirements*.txt"):
        for line in file.read_text().splitlines():
            requirement = line.partition("#")[0].strip()
            if requirement:
                name, equals, version = requirement.partition("==")
                assert equals and version, f"{file.name}: {line}"
                assert (name, requirement.partition(";")[2]) not in seen, f"{file.name}: {line}"
                seen.add((name, requirement.partition(";")[2]))
    assert len(seen) > 100


def test_paths_of_the_machine_that_built_the_wheels_are_replaced(checkout: Path) -> None:
    places = Places(checkout)
    (places.site_packages / "numpy/_core/include").mkdir(parents=True)
    file = places.environment / "share/std_msgs/cmake/export.cmake"
    file.parent.mkdir(parents=True)
    file.write_text(
        'A "/opt/python/cp311-cp311/include/python3.11;'
        '/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"'
    )
    environment.correct_paths(places)
    headers = file.read_text().split('"')[1].split(";")
    assert (Path(headers[0]) / "Python.h").is_file()
    assert headers[1] == str(places.site_packages / "numpy/_core/include")


def test_a_sourced_ros_does_not_show_through() -> None:
    outside = {"PATH": "/usr/bin", "ROS_DISTRO": "jazzy", "PYTHONPATH": "/opt/ros/x", "LD_LIBRARY_PATH": "/opt/ros/lib"}
    outside |= {"AMENT_PREFIX_PATH": "/opt/ros/jazzy", "RMW_IMPLEMENTATION": "rmw_other", "ROS_DOMAIN_ID": "7"}
    inside = handover.variables(Places(ROOT), outside)
    assert not [name for name, value in inside.items() if "/opt/ros" in value or value == "rmw_other"]
    assert inside["ROS_DISTRO"] == "kilted"
    assert inside["ROS_DOMAIN_ID"] == "7"
    assert inside["PATH"].endswith(":/usr/bin")


@pytest.mark.parametrize(
    ("outside", "asked", "profile"),
    [
        ({}, "SYSTEM_DEFAULT", "fastdds_local.xml"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, "SYSTEM_DEFAULT", "fastdds_local.xml"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, "SUBNET", "fastdds.xml"),
        ({"ROS_STATIC_PEERS": "10.0.0.2"}, "LOCALHOST", "fastdds.xml"),
        ({"FASTDDS_DEFAULT_PROFILES_FILE": "own.xml"}, "LOCALHOST", "own.xml"),
    ],
)
def test_only_this_machine_is_heard_unless_asked_for_more(outside: dict[str, str], asked: str, profile: str) -> None:
    inside = handover.variables(Places(ROOT), {"PATH": "/usr/bin", **outside})
    for _ in range(2):
        assert inside["ROS_AUTOMATIC_DISCOVERY_RANGE"] == asked
        assert Path(inside["FASTDDS_DEFAULT_PROFILES_FILE"]).name == profile
        # A command of a shell that `./mbrl shell` has made.
        inside = handover.variables(Places(ROOT), inside)


def test_nodes_share_no_memory_in_which_a_killed_one_could_hold_a_lock(free_domain: int) -> None:
    program = (
        f"import rclpy; rclpy.init(domain_id={free_domain}); node = rclpy.create_node('here')\n"
        "print([line for line in open('/proc/self/maps') if '/dev/shm/fast' in line])"
    )
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("ROS_", "FASTDDS_"))}
    for asked in ({}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}):
        inside = handover.variables(Places(ROOT), {**outside, **asked})
        done = subprocess.run([sys.executable, "-c", program], env=inside, capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"


def test_files_that_the_checkout_no_longer_has_are_forgotten(tmp_path: Path) -> None:
    kept, removed = tmp_path / "kept.yaml", tmp_path / "removed.yaml"
    installed = tmp_path / "install" / "share"
    installed.mkdir(parents=True)
    for file in (kept, removed):
        file.touch()
        (installed / file.name).symlink_to(file)
    removed.unlink()
    workspace.forget_removed(tmp_path / "install")
    assert [entry.name for entry in installed.iterdir()] == ["kept.yaml"]


def test_set_up_runs_one_at_a_time_and_a_killed_one_lets_go(checkout: Path) -> None:
    program = (
        f"import sys, time; sys.path.insert(0, {str(ROOT / 'tools')!r})\n"
        "from pathlib import Path; from mbrl_setup.lock import exclusive; from mbrl_setup.places import Places\n"
        f"with exclusive(Places(Path({str(checkout)!r}))):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(float(sys.argv[1]))\n"
        "    print('released', time.monotonic(), flush=True)\n"
    )
    first = subprocess.Popen([sys.executable, "-c", program, "0.5"], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    with exclusive(Places(checkout)):
        taken = time.monotonic()
    released = first.communicate()[0]
    assert released.startswith("released") and float(released.split()[1]) <= taken
    second = subprocess.Popen([sys.executable, "-c", program, "60"], stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    assert second.stdout.readline() == "held\n"
    second.send_signal(signal.SIGKILL)
    second.wait()
    second.stdout.close()
    with exclusive(Places(checkout)):
        pass


def test_a_command_that_outlives_its_killed_set_up_is_waited_for(checkout: Path) -> None:
    program = (
        f"import os, sys; sys.path.insert(0, {str(ROOT / 'tools')!r})\n"
        "from pathlib import Path; from mbrl_setup.lock import exclusive; from mbrl_setup.places import Places\n"
        "from mbrl_setup.progress import Progress\n"
        f"places = Places(Path({str(checkout)!r}))\n"
        "with exclusive(places) as lock, Progress(places, lock) as progress:\n"
        "    progress.run(['/bin/sh', '-c', f'kill -KILL {os.getpid()}; sleep 0.5; touch finished'], os.environ)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (checkout / "finished").exists()
    with exclusive(Places(checkout)):
        assert (checkout / "finished").exists()


def test_an_interrupted_set_up_ends_what_it_has_started(checkout: Path) -> None:
    program = (
        # A background job of a shell is started with SIGINT ignored, and so are the tests that it runs.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"import os, sys; sys.path.insert(0, {str(ROOT / 'tools')!r})\n"
        "from pathlib import Path; from mbrl_setup.places import Places; from mbrl_setup.progress import Progress\n"
        f"with Progress(Places(Path({str(checkout)!r}))) as progress:\n"
        "    progress.run(['/bin/sh', '-c', 'sleep 30 & touch started; wait'], os.environ)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    while not (checkout / "started").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.wait(10.0)
    here = str(checkout).encode()
    assert not [entry for entry in Path("/proc").glob("[0-9]*") if _works_in(entry, here)]


def _works_in(process: Path, folder: bytes) -> bool:
    try:
        return os.readlink(process / "cwd").encode() == folder
    except OSError:
        return False


def test_a_waiter_takes_the_new_lock_when_clean_has_removed_the_old(checkout: Path) -> None:
    places = Places(checkout)
    with exclusive(places):
        shutil.rmtree(places.state)
        with exclusive(places):  # the one that is there now is free
            assert (places.state / "lock").is_file()


def test_clean_names_what_it_removes(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = Places(checkout)
    (places.build / "x").mkdir(parents=True)
    (places.runs / "one").mkdir(parents=True)
    assert clean(places, []) == 0
    assert not places.state.exists()
    assert places.runs.exists()
    assert f"removing {places.state}" in capsys.readouterr().err
    assert clean(places, ["--runs"]) == 0
    assert not places.runs.exists()
    assert clean(places, ["--rums"]) == 2


def test_test_fails_with_its_checks_and_ends_with_pytests_own_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MBRL_ROOT", str(tmp_path))
    (tmp_path / "pyproject.toml").write_text('[tool.mypy]\nfiles = ["a.py"]\n')
    (tmp_path / "a.py").write_text("number: int = 1\n")
    (tmp_path / "test_a.py").write_text("def test_one() -> None:\n    assert True\n")
    arguments = ["test", "-p", "no:cacheprovider", "-p", "no:launch_testing", "-p", "no:launch_ros"]
    assert cli.main(arguments) == 0
    (tmp_path / "a.py").write_text('number: int = "one"\n')
    capfd.readouterr()
    assert cli.main(arguments) == 1
    output = capfd.readouterr().out
    assert "Incompatible types in assignment" in output
    assert "1 passed" in output.strip().splitlines()[-1]
    (tmp_path / "a.py").write_text("import os\n")
    assert cli.main(arguments) == 1
    (tmp_path / "a.py").write_text("")
    (tmp_path / "test_a.py").write_text("def test_one() -> None:\n    assert False\n")
    assert cli.main([*arguments, "-q"]) == 1


def test_print_description_gives_the_committed_expansion(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBRL_ROOT", str(ROOT))
    case = json.loads((Path(__file__).parent / "expansions/mujoco_lockstep.json").read_text())
    words = [f"{name}:={value}" for name, value in case["arguments"].items()]
    assert cli.main(["launch", "--print-description", "mbrl_bringup", "mujoco.launch.yaml", *words]) == 0
    assert json.loads(capsys.readouterr().out) == case["nodes"]


def test_launch_says_which_files_and_arguments_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBRL_ROOT", str(ROOT))
    assert cli.main(["launch", "no_such.launch.yaml"]) == 1
    assert "mbrl.launch.yaml" in capsys.readouterr().err
    assert cli.main(["launch", "--show-args", "mbrl.launch.yaml"]) == 0
    output = capsys.readouterr().out
    assert "planner:=" in output and "One of: icem" in output and "'cartpole'" in output


def test_run_lists_the_executables_of_a_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["run", "mbrl_robot"]) == 0
    assert {"mujoco_node", "robot_node"} <= set(capsys.readouterr().out.split())
    assert cli.main(["run", "mbrl_robot", "robbot_node"]) == 1
    assert "it has" in capsys.readouterr().err
    assert cli.main(["run", "mbrl_robbot", "robot_node"]) == 1
    assert "'mbrl_robbot'" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "missing"), [("bench", "no_such_bench"), ("plot", "no_such_run")])
def test_an_unknown_name_is_named(
    command: str, missing: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBRL_ROOT", str(ROOT))
    assert cli.main([command, missing]) != 0
    assert missing in capsys.readouterr().err


def test_a_reward_that_is_none_is_refused_before_anybody_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "reward.safetensors"
    assert cli.main(["reward", str(path)]) == 1
    assert "No such file" in capsys.readouterr().err
    path.write_bytes(b"cut")
    assert cli.main(["reward", str(path)]) == 1
    assert "reward.safetensors: task 'learned' content: not a whole safetensors file" in capsys.readouterr().err
