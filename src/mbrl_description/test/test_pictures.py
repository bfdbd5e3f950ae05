# SPDX-License-Identifier: Apache-2.0
"""Every robot shows in its cameras, offscreen."""

import os
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco
import numpy as np
import pytest

MODELS = Path(__file__).parents[1] / "mjcf"
HEIGHT, WIDTH = 240, 320
SMALLEST_ROBOT = 150  # pixels
POSES: dict[str, list[tuple[float, ...]]] = {
    "acrobot": [(0.0, 0.0), (3.14, 0.0), (1.57, 0.0), (-1.57, 0.0)],
    "arm": [(0.0,) * 7, (0.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0), (0.0, -1.5, 0.0, 0.0, 0.0, 1.0, 0.0)],
    "cartpole": [(0.0, 0.0), (0.0, 3.14), (2.4, 1.57), (-2.4, -1.57)],
    "pendulum": [(0.0,), (3.14,), (1.57,), (-1.57,)],
    "reacher": [(0.0, 0.0), (1.57, 0.0), (3.14, 0.0), (-1.57, 0.0)],
}


def offscreen_missing() -> str:
    """Why nothing can be drawn here; empty when it can."""
    try:
        mujoco.GLContext(WIDTH, HEIGHT).free()
    except (ImportError, AttributeError, RuntimeError, OSError) as error:  # Each drawing backend has its own.
        return f"no offscreen GL: {error}"
    return ""


WHY_NOT = offscreen_missing()


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
@pytest.mark.parametrize("camera", ["fixed", "track"])
@pytest.mark.parametrize("name", sorted(POSES))
def test_robot_is_seen_whole(name: str, camera: str) -> None:
    model = mujoco.MjModel.from_xml_path(str(MODELS / f"{name}.xml"))
    data = mujoco.MjData(model)
    with mujoco.Renderer(model, HEIGHT, WIDTH) as renderer:
        for pose in POSES[name]:
            data.qpos[:] = pose
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera=camera)
            picture = renderer.render().astype(float)
            assert picture.std() > 15.0, "flat picture"
            assert np.mean(picture.max(axis=2) > 250.0) < 0.2, "overexposed"
            renderer.enable_segmentation_rendering()
            renderer.update_scene(data, camera=camera)
            geoms = renderer.render()[..., 0]
            renderer.disable_segmentation_rendering()
            bodies = np.where(geoms >= 0, model.geom_bodyid[np.maximum(geoms, 0)], 0)
            assert np.count_nonzero(bodies) > SMALLEST_ROBOT, f"{name} at {pose} is too small or out of the picture"
            assert set(range(1, model.nbody)) <= set(np.unique(bodies)), f"a link of {name} is hidden at {pose}"
            border = np.concatenate([bodies[0], bodies[-1], bodies[:, 0], bodies[:, -1]])
            assert not border.any(), f"{name} at {pose} is cut by the frame of camera {camera!r}"
