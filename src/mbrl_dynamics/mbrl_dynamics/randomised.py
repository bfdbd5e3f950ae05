# SPDX-License-Identifier: Apache-2.0
"""One robot in many versions: simulations whose masses, friction and contacts are drawn at random."""

import copy
import dataclasses
from dataclasses import dataclass

import mujoco
import numpy as np

from mbrl_core.config import parameter
from mbrl_core.mjcf import load_mjcf
from mbrl_core.observation import require_plain
from mbrl_core.random_streams import generator
from mbrl_core.robot_file import Robot
from mbrl_core.specs import Array
from mbrl_dynamics.bare_mjcf import bare
from mbrl_dynamics.batch_simulator import BatchSimulator

DIFFERENCE = 1e-4  # of central differences, as for the known dynamics


@dataclass(frozen=True)
class RandomisationConfig:
    """How far versions are from the MJCF. Spreads are standard deviations of the logarithm of a factor."""

    members: int = parameter(8, "versions, the MJCF itself among them", minimum=1, maximum=1000)
    mass_spread: float = parameter(0.2, "of each body's mass and inertia", minimum=0.0, maximum=2.0)
    centre_of_mass_spread: float = parameter(
        0.0, "standard deviation of each body's centre of mass in each direction, m", minimum=0.0
    )
    damping_spread: float = parameter(0.3, "of each joint's damping and dry friction", minimum=0.0, maximum=2.0)
    effort_spread: float = parameter(0.1, "of what each actuator gives", minimum=0.0, maximum=2.0)
    friction_spread: float = parameter(0.3, "of each geometry's friction in contacts", minimum=0.0, maximum=2.0)
    contact_spread: float = parameter(
        0.3,
        "of the time constant of contacts and of joint limits, short where they are stiff",
        minimum=0.0,
        maximum=2.0,
    )
    contact_position_spread: float = parameter(
        0.0, "standard deviation of the place in each direction of geometry that may touch, m", minimum=0.0
    )


class RandomisedSimulations:
    """`members` versions of a robot, the first as its MJCF says, the others drawn from the stream (seed, member, 0,
    "randomisation").

    Raises SpecError, FileNotFoundError and ValueError as `load_mjcf` and `BatchSimulator` do.
    """

    def __init__(self, robot: Robot, config: RandomisationConfig, seed: int) -> None:
        require_plain(robot.observation.plain, robot.spec.name, "a randomised simulation")
        mjcf = load_mjcf(robot)
        if robot.mjcf is not None:
            mjcf = bare(mjcf, robot.mjcf)
        self.spec, self.members = robot.spec, config.members
        self.models = [mjcf.model] + [
            perturbed(mjcf.model, config, generator(seed, member, 0, "randomisation"))
            for member in range(1, config.members)
        ]
        self._simulators = [BatchSimulator(dataclasses.replace(mjcf, model=model)) for model in self.models]
        self._scale = np.array(robot.spec.action.scale)
        self._limits = np.array(robot.spec.action.lower), np.array(robot.spec.action.upper)

    def step(self, states: Array, actions: Array) -> Array:
        """States [members, B, n] one control period after states [members, B, n] under normalised actions
        [members, B, m], which are cut to their limits. What diverges, or was no number before, is NaN.
        """
        rows = [
            self._stepped(simulator, state, action)
            for simulator, state, action in zip(self._simulators, states, actions, strict=True)
        ]
        return np.stack(rows)

    def jacobians(self, member: int, states: Array, actions: Array) -> tuple[Array, Array]:
        """Of one version's step by state [B, n, n] and action [B, n, m] at states [B, n] and actions [B, m]: central
        differences, one-sided beside an action's limit.
        """
        size, inputs = states.shape[-1], states.shape[-1] + actions.shape[-1]
        at = np.concatenate([states, np.clip(actions, *self._limits)], axis=-1)
        ends = np.stack([at[:, None] + sign * DIFFERENCE * np.eye(inputs) for sign in (1.0, -1.0)])
        ends[..., size:] = np.clip(ends[..., size:], *self._limits)
        rows = ends.reshape(-1, inputs)
        later = self._stepped(self._simulators[member], rows[:, :size], rows[:, size:])
        later = later.reshape(*ends.shape[:-1], size)
        width = np.einsum("kii->ki", ends[0] - ends[1])
        by_input = np.swapaxes((later[0] - later[1]) / width[..., None], -1, -2)
        return by_input[..., :size], by_input[..., size:]

    def _stepped(self, simulator: BatchSimulator, state: Array, action: Array) -> Array:
        control = simulator.mjcf.control(np.clip(action, *self._limits) * self._scale)
        good = np.isfinite(np.concatenate([state, control], axis=-1)).all(axis=-1)
        state, control = np.where(good[:, None], state, 0.0), np.where(good[:, None], control, 0.0)
        following = simulator.run(state, control[:, None], 1)[:, 0].copy()
        following[~good] = np.nan
        return following


def perturbed(model: mujoco.MjModel, config: RandomisationConfig, random: np.random.Generator) -> mujoco.MjModel:
    """A version of `model`, drawn by `random`; every quantity takes the same draws whatever the others' spreads are."""
    version = copy.deepcopy(model)

    def factors(spread: float, count: int) -> Array:
        return np.asarray(np.exp(spread * random.standard_normal(count)))

    mass = factors(config.mass_spread, model.nbody)
    version.body_mass[:] = model.body_mass * mass
    version.body_inertia[:] = model.body_inertia * mass[:, None]
    version.body_ipos[1:] += config.centre_of_mass_spread * random.standard_normal((model.nbody - 1, 3))
    damping = factors(config.damping_spread, model.nv)
    version.dof_damping[:] = model.dof_damping * damping
    version.dof_frictionloss[:] = model.dof_frictionloss * damping
    effort = factors(config.effort_spread, model.nu)
    version.actuator_gainprm[:, 0] = model.actuator_gainprm[:, 0] * effort
    # A drive's own feedback: what it comes to stays what it is told.
    version.actuator_biasprm[:, :3] = model.actuator_biasprm[:, :3] * effort[:, None]
    stiffness = factors(config.contact_spread, model.njnt)
    _scale_time_constants(version.jnt_solref, stiffness)
    version.geom_friction[:] = model.geom_friction * factors(config.friction_spread, model.ngeom)[:, None]
    _scale_time_constants(version.geom_solref, factors(config.contact_spread, model.ngeom))
    touches = (model.geom_contype > 0) | (model.geom_conaffinity > 0)
    version.geom_pos[:] += config.contact_position_spread * random.standard_normal((model.ngeom, 3)) * touches[:, None]
    # What MuJoCo derives from masses, such as the weights of constraints.
    mujoco.mj_setConst(version, mujoco.MjData(version))
    return version


def _scale_time_constants(solref: Array, factor: Array) -> None:
    """solref [N, 2] in place: (time constant, damping ratio) where positive, (-stiffness, -damping) where negative."""
    direct = solref[:, 0] <= 0.0
    solref[:, 0] *= np.where(direct, 1.0 / factor**2, factor)
    solref[:, 1] *= np.where(direct, 1.0 / factor, 1.0)
