# SPDX-License-Identifier: Apache-2.0
"""A tip by product of exponentials: by hand, and MuJoCo's own over random robots of any shape."""

import mujoco
import numpy as np
import pytest
import torch

from mbrl_core.kinematic_chain import ChainJoint, moving_point, point_of_chain


def random_mjcf(random: np.random.Generator) -> tuple[str, int]:
    """A chain of one to six joints, several in a body, anchors beside bodies' origins, turned frames, with `ref`."""
    text, count = '<site name="tip" pos="0.1 0.2 -0.1"/>', 0
    for _ in range(int(random.integers(1, 4))):
        joints = ""
        for _ in range(int(random.integers(1, 3))):
            kind = random.choice(["hinge", "slide"])
            axis, place = " ".join(map(str, random.normal(size=3))), " ".join(map(str, random.normal(size=3)))
            joints += f'<joint name="j{{}}" type="{kind}" axis="{axis}" pos="{place}" ref="{random.normal():.3f}"/>'
        frame = " ".join(map(str, random.normal(size=3)))
        turn = " ".join(map(str, random.normal(size=4)))
        text = f'<body pos="{frame}" quat="{turn}"><geom size="0.1"/>{joints}{text}</body>'
    while "{}" in text:
        text = text.replace("{}", str(count), 1)
        count += 1
    return f'<mujoco><compiler angle="radian"/><worldbody>{text}</worldbody></mujoco>', count


def chain_of(model: mujoco.MjModel) -> tuple[list[ChainJoint], list[float]]:
    data = mujoco.MjData(model)
    data.qpos[:] = 0.0
    mujoco.mj_kinematics(model, data)
    joints = [
        ChainJoint(i, model.jnt_type[i] == mujoco.mjtJoint.mjJNT_HINGE, tuple(data.xaxis[i]), tuple(data.xanchor[i]))
        for i in range(model.njnt)
    ]
    return joints, data.site("tip").xpos.tolist()


@pytest.mark.parametrize("seed", range(12))
def test_places_and_velocities_are_mujocos(seed: int) -> None:
    random = np.random.default_rng(seed)
    model = mujoco.MjModel.from_xml_string(random_mjcf(random)[0])
    data = mujoco.MjData(model)
    joints, tip = chain_of(model)
    states = random.normal(size=(20, 2 * model.nq)) * 2.0
    places = np.stack(point_of_chain(joints, tip, states), axis=-1)
    moving = moving_point(joints, tip, states, model.nq)
    jacobian = np.zeros((3, model.nv))
    for state, place, velocity in zip(states, places, np.stack(moving.velocity, axis=-1), strict=True):
        data.qpos[:], data.qvel[:] = state[: model.nq], state[model.nq :]
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(place, data.site("tip").xpos, atol=1e-9)
        mujoco.mj_jacSite(model, data, jacobian, None, model.site("tip").id)
        np.testing.assert_allclose(velocity, jacobian @ data.qvel, atol=1e-8)
    np.testing.assert_allclose(np.stack(moving.position, axis=-1), places)


def test_an_elbow_by_hand() -> None:
    joints = [ChainJoint(0, True, (0.0, 0.0, 2.0)), ChainJoint(1, True, (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))]
    x, y, z = point_of_chain(joints, (2.0, 0.0, 0.5), np.array([np.pi / 2, np.pi / 2]))
    np.testing.assert_allclose([x, y, z], [-1.0, 1.0, 0.5], atol=1e-12)
    with pytest.raises(ValueError, match="axis of joint 3: got .*expected a direction"):
        ChainJoint(3, True, (0.0, 0.0, 0.0))


def test_torch_has_the_gradient_that_differences_say() -> None:
    model = mujoco.MjModel.from_xml_string(random_mjcf(np.random.default_rng(5))[0])
    joints, tip = chain_of(model)
    state = torch.randn(3, 2 * model.nq, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(
        lambda values: torch.stack(point_of_chain(joints, tip, values), -1), state.requires_grad_()
    )
