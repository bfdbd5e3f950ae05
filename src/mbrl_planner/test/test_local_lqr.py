# SPDX-License-Identifier: Apache-2.0
"""Linear-quadratic control on dynamics that were fitted to rollouts."""

import numpy as np

from mbrl_dynamics.local_fit import fit_local_dynamics
from mbrl_dynamics.local_linear import LocalDynamics
from mbrl_planner.lqr import LinearDynamics, QuadraticPenalty, finite_horizon

STATES, ACTIONS, HORIZON = 3, 2, 8


def test_the_controller_from_rollouts_is_that_of_the_true_dynamics() -> None:
    random = np.random.default_rng(0)
    true = LocalDynamics(
        np.eye(STATES) + 0.2 * random.normal(size=(HORIZON, STATES, STATES)),
        random.normal(size=(HORIZON, STATES, ACTIONS)),
        random.normal(size=(HORIZON, STATES)),
        np.zeros((HORIZON, STATES, STATES)),
    )
    nothing = np.zeros((HORIZON, ACTIONS, STATES)), np.zeros((HORIZON, ACTIONS))
    noise = np.repeat(np.eye(ACTIONS)[None], HORIZON, axis=0)
    states, actions = true.simulate(random.normal(size=(12, STATES)), *nothing, noise, random)
    fitted = fit_local_dynamics(states, actions, regularisation=0.0)
    penalty = QuadraticPenalty(
        np.eye(STATES), np.zeros((ACTIONS, STATES)), np.eye(ACTIONS), np.ones(STATES), np.zeros(ACTIONS)
    )
    expected, found = (
        finite_horizon(LinearDynamics(*dynamics.affine), penalty, HORIZON) for dynamics in (true, fitted)
    )
    np.testing.assert_allclose(found.gains, expected.gains, atol=1e-8)
    np.testing.assert_allclose(found.offsets, expected.offsets, atol=1e-8)
    # Without noise the mean under the controller is the rollout of its actions.
    start = np.ones(STATES)
    quiet = np.zeros((HORIZON, ACTIONS, ACTIONS))
    moments = fitted.moments(start, np.zeros((STATES, STATES)), found.gains, found.offsets, quiet)
    rolled = true.rollout(start, moments.joint_mean[None, :, STATES:])
    np.testing.assert_allclose(rolled[0], moments.state_mean, atol=1e-7)
