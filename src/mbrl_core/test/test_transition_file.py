# SPDX-License-Identifier: Apache-2.0
"""Files of transitions: everything comes back, and nothing else is taken for one."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.dataset import Transitions
from mbrl_core.specs import ActionSpec, RobotSpec, StateSpec
from mbrl_core.transition_file import TransitionFile, TransitionFileError, load_transitions, save_transitions

SPEC = RobotSpec(
    name="slide",
    period=0.02,
    state=StateSpec(("x", "v"), ("linear", "linear"), ("m", "m/s"), (-np.inf, -1.0), (np.inf, 1.0)),
    action=ActionSpec(("x",), ("effort",), ("N",), (-1.0,), (1.0,), (2.0,), (np.inf,)),
)


def example(count: int = 7) -> TransitionFile:
    random = np.random.default_rng(0)
    numbers = np.arange(count)
    transitions = Transitions(
        random.normal(size=(count, 2)), random.normal(size=(count, 1)), random.normal(size=(count, 2)), numbers, numbers
    )
    return TransitionFile(SPEC, transitions, {"note": np.array(["so", "lala"]), "stamp_ns": numbers})


def test_everything_comes_back(tmp_path: Path) -> None:
    save_transitions(tmp_path / "new" / "data.npz", example())
    read = load_transitions(tmp_path / "new" / "data.npz", SPEC)
    assert read.spec == SPEC
    for name in ("state", "action", "next_state", "episode", "step"):
        np.testing.assert_array_equal(getattr(read.transitions, name), getattr(example().transitions, name))
    assert read.extra["note"].tolist() == ["so", "lala"]
    assert [item.name for item in (tmp_path / "new").iterdir()] == ["data.npz"]


def test_another_robot_is_refused(tmp_path: Path) -> None:
    save_transitions(tmp_path / "data.npz", example())
    with pytest.raises(TransitionFileError, match="of robot 'slide'.*expected 'fast'"):
        load_transitions(tmp_path / "data.npz", dataclasses.replace(SPEC, name="fast", period=0.01))


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    save_transitions(tmp_path / "data.npz", example())
    whole = (tmp_path / "data.npz").read_bytes()
    for cut in np.linspace(0, len(whole) - 1, 40).astype(int):
        (tmp_path / "cut.npz").write_bytes(whole[:cut])
        with pytest.raises(TransitionFileError, match="cut.npz"):
            load_transitions(tmp_path / "cut.npz")


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(TransitionFileError, match="No such file"):
        load_transitions(tmp_path / "nothing.npz")
    np.savez(tmp_path / "bare.npz", state=np.zeros((2, 2)))
    with pytest.raises(TransitionFileError, match="expected an array 'action'"):
        load_transitions(tmp_path / "bare.npz")
    content = example()
    wide = dataclasses.replace(content.transitions, action=np.zeros((7, 3)))
    save_transitions(tmp_path / "wide.npz", dataclasses.replace(content, transitions=wide))
    with pytest.raises(TransitionFileError, match="2 state and 3 action variables, but its robot 'slide' has 2 and 1"):
        load_transitions(tmp_path / "wide.npz")
    np.savez(tmp_path / "pickled.npz", state=np.array([{}], dtype=object))
    with pytest.raises(TransitionFileError, match="pickle"):
        load_transitions(tmp_path / "pickled.npz")
