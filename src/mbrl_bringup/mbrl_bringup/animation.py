# SPDX-License-Identifier: Apache-2.0
"""Animation of a run: its first and its last trial side by side, rendered again from the recorded states.

Runs as a process of its own (`python -m mbrl_bringup.animation RUN`): where offscreen OpenGL is broken it may end the
process, and the run has to survive that.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_bringup.run_files import Run, read_run
from mbrl_core.robot_file import Robot, load_robot
from mbrl_core.specs import Array

ANIMATION = "first_and_last.gif"
WIDTH, HEIGHT = 320, 240
FRAMES_PER_SECOND = 12.5
RENDER_TIMEOUT = 120.0


def animate(directory: str | Path) -> Path | str:
    """Renders the animation in another process. Returns its path, or in plain words why there is none."""
    environment = {"MUJOCO_GL": "egl", **os.environ}
    command = [sys.executable, "-m", "mbrl_bringup.animation", str(directory)]
    try:
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RENDER_TIMEOUT)
    except subprocess.TimeoutExpired:
        return f"no animation: rendering took longer than {RENDER_TIMEOUT:.0f} s"
    if run.returncode != 0:
        reason = (run.stderr.strip().splitlines() or [f"status {run.returncode}"])[-1]
        return f"no animation: offscreen rendering does not work here ({reason})"
    return Path(directory) / ANIMATION


def main(arguments: list[str] | None = None) -> int:
    """Renders first_and_last.gif into the run directory that is the only argument."""
    (directory,) = sys.argv[1:] if arguments is None else arguments
    run = read_run(directory)
    robot = load_robot(run.information["robot_file"])
    frames = render(run, robot)
    first, *others = frames
    first.save(
        run.directory / ANIMATION, save_all=True, append_images=others, duration=int(1000 / FRAMES_PER_SECOND), loop=0,
        optimize=False,
    )  # fmt: skip
    return 0


def render(run: Run, robot: Robot) -> list[Any]:
    """Frames (pillow images) with the first trial, or the last of another controller, on the left, the last on the
    right."""
    import mujoco
    from PIL import Image, ImageDraw

    from mbrl_core.mjcf import compile_mjcf

    if robot.mjcf is None:
        raise ValueError(f"robot {robot.spec.name!r} has no MJCF to render from")
    model = compile_mjcf(robot.mjcf)
    # Mesa's software renderer is alone with the frames: what costs most there is left out.
    model.vis.quality.offsamples = 0
    data = mujoco.MjData(model)
    addresses = [model.jnt_qposadr[model.joint(joint.name).id] for joint in robot.joints]
    # Where a policy has taken over, its trials are shown beside the planner's last.
    before = [row for row in run.metrics if row["controller"] != run.metrics[-1]["controller"] and row["learned"]]
    chosen = [(before or run.metrics)[-1 if before else 0], run.metrics[-1]]
    every = max(1, round(1.0 / (FRAMES_PER_SECOND * run.information["period"])))
    trajectories = [run.states(row["trial"])[::every] for row in chosen]
    frames = []
    with mujoco.Renderer(model, HEIGHT, WIDTH) as renderer:
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        for index in range(max(len(states) for states in trajectories)):
            frame = Image.new("RGB", (2 * WIDTH, HEIGHT))
            draw = ImageDraw.Draw(frame)
            for column, (row, states) in enumerate(zip(chosen, trajectories, strict=True)):
                picture = _picture(mujoco, renderer, model, data, addresses, states[min(index, len(states) - 1)])
                frame.paste(Image.fromarray(picture), (column * WIDTH, 0))
                text = f"trial {row['trial']} ({_serving(run, row, index * every)}), return {row['return']:.1f}"
                draw.text((column * WIDTH + 8, 6), text, fill="white", stroke_width=2, stroke_fill="black")
            frames.append(frame.quantize(colors=64))
    return frames


def _serving(run: Run, row: dict[str, Any], step: int) -> str:
    """Who moves the robot at a step of a trial."""
    if "controller" not in run.steps:
        return str(row["controller"])
    served = run.steps["controller"][run.steps["trial"] == row["trial"]]
    return str(served[min(max(step, 1), len(served) - 1)])


def _picture(mujoco: Any, renderer: Any, model: Any, data: Any, addresses: list[int], state: Array) -> np.ndarray:
    data.qpos[addresses] = state[: len(addresses)]
    mujoco.mj_forward(model, data)
    renderer.update_scene(data, camera=0 if model.ncam else -1)
    return np.asarray(renderer.render())


if __name__ == "__main__":
    sys.exit(main())
