# SPDX-License-Identifier: Apache-2.0
"""How many rollouts local dynamics need: linear regression beside Bayesian regression with three priors.

On each robot, known dynamics make rollouts under one open-loop controller with noise, and five under each of eight
other controllers, which is what mixture and ensemble are fitted to beforehand. Errors are those of the slopes [A B]
against the true ones, and of one-step predictions on 100 further rollouts (benchmarks/_local_rollouts.py). Beside
that, the posterior against its closed form and propagated moments against samples.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from _learning import interquartile_mean, lower_bound_of_interquartile_mean
from _local_rollouts import Rollouts, Scene
from common import bar, report

from mbrl_core.specs import Array
from mbrl_dynamics.gaussian_prior import (
    EnsemblePrior,
    MixturePrior,
    NormalInverseWishart,
    PriorConfig,
    TransitionPrior,
    condition,
)
from mbrl_dynamics.local_fit import fit_local_dynamics, rollout_transitions
from mbrl_dynamics.local_linear import LocalDynamics
from mbrl_dynamics.registry import make_model

HORIZON = 40
COUNTS = (2, 3, 4, 5, 6, 8, 12, 20, 50)
EARLIER = (8, 5)  # controllers, rollouts of each
MOST, HELD_OUT = 200, 100
FEW = 4  # rollouts with a prior, set against the fewest that regression takes
NONLINEAR = ("acrobot", "cartpole")  # the reacher is linear but for its end stop
SAMPLES = 200_000


def errors(name: str, seed: int) -> list[dict[str, Any]]:
    """One row for each prior and number of rollouts."""
    torch.set_num_threads(1)
    scene = Scene(name, HORIZON)
    all_rollouts = scene.rollouts(seed, 0, MOST + HELD_OUT)
    many = Rollouts(all_rollouts.states[:MOST], all_rollouts.actions[:MOST])
    held_out = Rollouts(all_rollouts.states[MOST:], all_rollouts.actions[MOST:])
    controllers, each = EARLIER
    before = [scene.rollouts(seed, controller, each) for controller in range(1, controllers + 1)]
    data = rollout_transitions(
        np.concatenate([one.states for one in before]), np.concatenate([one.actions for one in before])
    )
    angular = scene.spec.state.angular
    mixture = MixturePrior.fit(data, angular, seed)
    ensemble = make_model("ensemble", {}, scene.spec, seed)
    ensemble.fit(data, seed)
    priors: Mapping[str, TransitionPrior | None] = {
        "none": None,
        "mixture": mixture,
        "mixture, own spread": MixturePrior(mixture.mixture, scene.spec.state.size, PriorConfig(own_spread=True)),
        "ensemble": EnsemblePrior(ensemble),
    }
    rows = []
    for count in COUNTS:
        for prior_name, prior in priors.items():
            if prior is None and count < fewest(scene):
                continue
            begin = time.perf_counter()
            local = fit_local_dynamics(many.states[:count], many.actions[:count], angular, prior)
            rows.append(
                {
                    "robot": name,
                    "seed": seed,
                    "prior": prior_name,
                    "rollouts": count,
                    "slope_error": scene.slope_error(local, many),
                    "prediction_error": scene.prediction_error(local, held_out),
                    "seconds": time.perf_counter() - begin,
                    "components": mixture.mixture.components,
                }
            )
    return rows


def fewest(scene: Scene) -> int:
    """Rollouts that regression alone takes."""
    return scene.spec.state.size + scene.spec.action.size + 1


def posterior_error(seed: int) -> float:
    """Largest difference of slopes and offsets from least squares on the data and on rows that stand for the prior.

    Rows of a root of Phi, which have no constant, and one at mu0 with the weight sqrt(m): their scatter is the prior's.
    """
    random = np.random.default_rng(seed)
    inputs, outputs = random.integers(1, 9), random.integers(1, 7)
    size = inputs + outputs
    root = random.normal(size=(size, size))
    prior = NormalInverseWishart(random.normal(size=size), root @ root.T, *random.uniform(0.1, 5.0, 2))
    points = random.normal(size=(random.integers(1, 8), size))
    posterior = prior.posterior(points)
    slope, offset, _ = condition(posterior.mean, posterior.covariance, inputs)
    rows = np.concatenate([root.T, np.sqrt(prior.mean_count) * prior.mean[None], points])
    constant = np.concatenate([np.zeros(size), [np.sqrt(prior.mean_count)], np.ones(len(points))])
    design = np.concatenate([rows[:, :inputs], constant[:, None]], axis=1)
    expected = np.linalg.lstsq(design, rows[:, inputs:], rcond=None)[0].T
    found = np.concatenate([slope, offset[:, None]], axis=1)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def moments_error(seed: int) -> float:
    """Largest difference of mean and covariance of [x; u] from those of samples, in standard errors of these."""
    random = np.random.default_rng(seed)
    states, actions, horizon = 4, 2, 10

    def covariances(size: int) -> Array:
        root = random.normal(size=(horizon, size, size))
        return np.asarray(0.1 * root @ root.swapaxes(1, 2))

    dynamics = LocalDynamics(
        np.eye(states) + 0.1 * random.normal(size=(horizon, states, states)),
        random.normal(size=(horizon, states, actions)),
        random.normal(size=(horizon, states)),
        covariances(states),
    )
    gains = 0.2 * random.normal(size=(horizon, actions, states))
    controller = gains, random.normal(size=(horizon, actions)), covariances(actions)
    mean, root = random.normal(size=states), random.normal(size=(states, states))
    start = mean + random.normal(size=(SAMPLES, states)) @ root.T
    drawn = np.concatenate([part[:, :horizon] for part in dynamics.simulate(start, *controller, random)], axis=-1)
    moments = dynamics.moments(mean, root @ root.T, *controller)
    deviation = np.sqrt(np.einsum("hii->hi", moments.joint_covariance))
    average = drawn.mean(axis=0)
    off = np.abs(average - moments.joint_mean) / (deviation / np.sqrt(SAMPLES))
    centred = drawn - average
    found = np.einsum("rhi,rhj->hij", centred, centred, optimize=True) / SAMPLES
    # The variance of a product of two Gaussians: C_ii C_jj + C_ij^2.
    products = deviation[:, :, None] ** 2 * deviation[:, None, :] ** 2 + moments.joint_covariance**2
    apart = np.abs(found - moments.joint_covariance) / np.sqrt(products / SAMPLES)
    return float(max(off.max(), apart.max()))


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="controllers on each robot (default: 10)")
    parser.add_argument("--first-seed", type=int, default=200, help="first of them (default: 200)")
    parser.add_argument("--workers", type=int, default=2, help="at a time (default: 2)")
    parser.add_argument("--full", action="store_true", help="50 controllers on each robot")
    options = parser.parse_args()
    if options.seeds < 1 or options.workers < 1 or options.first_seed < 0:
        parser.error("--seeds and --workers: expected at least 1, --first-seed at least 0")
    seeds = range(options.first_seed, options.first_seed + (50 if options.full else options.seeds))
    robots = (*NONLINEAR, "reacher")
    jobs = [(name, seed) for name in robots for seed in seeds]
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.workers) as pool:
        for found in pool.map(errors, *zip(*jobs, strict=True)):
            rows += found

    def column(robot: str, prior: str, count: int, what: str) -> Array:
        return np.array(
            [row[what] for row in rows if (row["robot"], row["prior"], row["rollouts"]) == (robot, prior, count)]
        )

    names = list(dict.fromkeys(row["prior"] for row in rows))
    for robot in robots:
        print(f"{robot}: interquartile means of slope error / prediction error")
        print(f"{'rollouts':>8}" + "".join(f"{name:>22}" for name in names))
        for count in COUNTS:
            cells = []
            for name in names:
                both = [column(robot, name, count, what) for what in ("slope_error", "prediction_error")]
                told = " / ".join(f"{interquartile_mean(values):.3f}" for values in both) if len(both[0]) else "-"
                cells.append(f"{told:>22}")
            print(f"{count:8}" + "".join(cells))
    bars = [
        bar("posterior_error_of_closed_form", max(map(posterior_error, range(200))), at_most=1e-8),
        bar("moments_error_in_standard_errors", max(map(moments_error, range(3))), at_most=5.5),
    ]
    for robot in NONLINEAR:
        least = min(row["rollouts"] for row in rows if row["robot"] == robot and row["prior"] == "none")
        alone = column(robot, "none", least, "slope_error")
        for name in ("mixture", "ensemble"):
            halvings = np.log2(alone / column(robot, name, FEW, "slope_error"))
            bars.append(
                bar(
                    f"{robot}_{name}_{FEW}_rollouts_halve_error_of_{least}_without_lower_bound",
                    lower_bound_of_interquartile_mean(halvings.tolist()),
                    at_least=1.0,
                )
            )
    return report("local_dynamics", bars, rows)


if __name__ == "__main__":
    sys.exit(main())
