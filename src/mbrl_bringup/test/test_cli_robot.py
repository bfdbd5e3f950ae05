# SPDX-License-Identifier: Apache-2.0
"""`./mbrl robot`."""

from pathlib import Path

import pytest

from mbrl_bringup import cli
from mbrl_core.robot_description.dart import MISSING, SYSTEM_PYTHON, available

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBRL_ROOT", str(ROOT))


def test_all_shipped_robots_are_checked_and_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["robot", "check"]) == 0
    output = capsys.readouterr().out
    for name in ("acrobot", "cartpole", "pendulum", "reacher"):
        assert f"{name}: largest relative difference from {name}.xml" in output
    assert "differ" not in output.replace("difference", "")
    assert "cartpole_50hz" not in output, "its files are the cart-pole's"


def test_a_difference_ends_in_status_1_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["robot", "export", "acrobot", "--folder", str(tmp_path)]) == 0
    capsys.readouterr()
    assert cli.main(["robot", "check", "acrobot", "--folder", str(tmp_path)]) == 0
    path = tmp_path / "urdf" / "acrobot.urdf"
    heavier = path.read_text().replace(
        'mass value="1" />\n      <inertia ixx="0.09', 'mass value="2" />\n      <inertia ixx="0.09', 1
    )
    path.write_text(heavier)
    assert cli.main(["robot", "check", "acrobot", "--folder", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert f"{path}: link 'upper_link': mass: 2 kg, expected 1 kg as acrobot.xml has it" in captured.err
    assert "1.0e+00     0.0e+00" in captured.out


def test_export_of_a_users_own_robot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    robot = tmp_path / "own.yaml"
    robot.write_text((ROOT / "config" / "robots" / "reacher.yaml").read_text().replace("name: reacher", "name: own"))
    assert cli.main(["robot", "export", str(robot), "--folder", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "no link can carry the armature of joint 'joint1' (1)" in captured.err
    assert len(captured.out.split()) == 4
    assert "`./mbrl robot export own`" in (tmp_path / "out" / "urdf" / "reacher.urdf").read_text()


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["robot", "check", "walker"]) == 1
    assert "unknown robot 'walker'" in capsys.readouterr().err
    assert cli.main(["robot", "check", "pendulum", "--folder", str(tmp_path)]) == 1
    assert "pendulum.urdf does not exist: `./mbrl robot export` writes it" in capsys.readouterr().err


def test_dart_is_optional_and_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["robot", "check", "pendulum", "--dart", "--dart-python", "/no/such/python"]) == 1
    expected = (
        "dartpy is missing for /no/such/python: on Debian or Ubuntu `apt-get install python3-dartpy python3-numpy`"
    )
    assert expected in capsys.readouterr().err


@pytest.mark.skipif(not available(), reason=MISSING.format(python=SYSTEM_PYTHON))
def test_dart_adds_its_motion_to_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["robot", "check", "pendulum", "--dart"]) == 0
    output = capsys.readouterr().out
    assert "sdf, forced motion" in output and "extrapolated" in output
