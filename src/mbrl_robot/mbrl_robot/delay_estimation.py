# SPDX-License-Identifier: Apache-2.0
"""How much later than it is sent does a command act: the shift of the commands that best predicts the next states.

For a joint with velocity v, the states between two samples Δ apart follow the linear model with exogenous input (ARX)

    v(t + Δ) = φ v(t) + b · w(t, d) + c · x(t),    w(t, d) = ∫ exp(-λ (t + Δ - s)) u(s - d) ds  over [t, t + Δ],

u the commands, constant in between, and x the other velocities, the positions (an angle by sine and cosine) and one.
λ belongs to φ = exp(-λ Δ): for a motor's effort it is about 0 and w the mean of the commands, a velocity drive follows
its command with that rate. The d whose model leaves the least squared error is the delay. The integral is exact for any
d, which therefore is no multiple of anything. One input only enters, at one shift: with two, as a free ARX model has
them, every fraction of a sample could be explained by either. Intervals come from resampling blocks of time.
"""

from dataclasses import dataclass

import numpy as np

from mbrl_core.specs import Array

BLOCKS = 30
RESAMPLES = 300
COARSE = 4  # candidates in an interval of the samples
FINE = 40
LARGEST_RATE = 5.0  # of the response, times the interval of the samples
RATE_ROUNDS = 4
LEAST_SAMPLES = 100
LEAST_CHANGES = 20
# What the input has to explain of the squared error that is left without it, beyond what chance would.
LEAST_EXPLAINED = 0.02
LEAST_F = 30.0


class NoDelayFound(ValueError):
    """Nothing can be said about a delay. The text says why, and what may help."""


@dataclass(frozen=True)
class Recording:
    """What was measured, times in seconds of one clock.

    sample_times [N]; positions and velocities [N, joints]; angular [joints] says where a position wraps. command_times
    [M] of publication, in order; commands [M, action_size]: each acts, later, until the next one does.
    """

    sample_times: Array
    positions: Array
    velocities: Array
    angular: np.ndarray
    command_times: Array
    commands: Array


@dataclass(frozen=True)
class DelayEstimate:
    """`delay` of a joint, seconds, with its 95 % interval.

    `explained`: the share of the squared error of the velocity's change that the commands explain; `rate` of the
    response, 1/s, about 0 for an effort.
    """

    delay: float
    lower: float
    upper: float
    explained: float
    rate: float


def estimate_delay(recording: Recording, joint: int, action: int, longest: float, seed: int = 0) -> DelayEstimate:
    """Delay from `action` to the velocity of `joint`, at most `longest` seconds. Raises NoDelayFound."""
    fit = _Fit(recording, joint, action, longest)
    for _ in range(RATE_ROUNDS):
        coarse = fit.candidates(0.0, longest, fit.interval / COARSE)
        best = fit.best(coarse)
        rate = fit.rate_at(best)
        if abs(rate - fit.rate) * fit.interval < 1e-3:
            break
        fit.rate = rate
    if best >= longest - fit.interval:
        raise NoDelayFound(
            f"the best fit is at the end of what was searched, {longest:g} s; expected a delay below it: --longest"
        )
    explained = fit.explained(best)
    near = fit.candidates(max(best - 1.5 * fit.interval, 0.0), best + 1.5 * fit.interval, fit.interval / FINE)
    blocks = fit.grams(near)
    delay = _minimum(near, _residuals(blocks.sum(axis=1)))
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        counts = np.bincount(random.integers(0, BLOCKS, BLOCKS), minlength=BLOCKS).astype(float)
        drawn.append(_minimum(near, _residuals(np.tensordot(blocks, counts, axes=(1, 0)))))
    lower, upper = np.percentile(drawn, [2.5, 97.5])
    if upper - lower > fit.interval * 2.0:
        raise NoDelayFound(
            f"{delay:.4f} s, but between {lower:.4f} and {upper:.4f} s: too noisy to say; expected a larger amplitude"
            " or more seconds"
        )
    return DelayEstimate(delay, float(min(lower, delay)), float(max(upper, delay)), explained, fit.rate)


class _Fit:
    """Regressions of one joint on one action at any delay."""

    def __init__(self, recording: Recording, joint: int, action: int, longest: float) -> None:
        times = recording.sample_times
        self.rate = 0.0
        self._recording, self._joint, self._action = recording, joint, action
        steps = np.diff(times)
        usable = steps > 0.0
        self.interval = float(np.median(steps[usable])) if usable.any() else 0.0
        # A gap is no sample interval, and before the first command nothing is known of the input.
        usable &= steps < 1.5 * self.interval
        usable &= times[:-1] - longest >= recording.command_times[0]
        self._rows = np.flatnonzero(usable)
        self._steps = steps[self._rows]
        if len(self._rows) < LEAST_SAMPLES:
            raise NoDelayFound(f"{len(self._rows)} samples that can be used, expected at least {LEAST_SAMPLES}")
        changes = np.count_nonzero(np.diff(recording.commands[:, action]))
        if changes < LEAST_CHANGES:
            raise NoDelayFound(f"its command changed {changes} times, expected at least {LEAST_CHANGES}")
        velocity = recording.velocities[:, joint]
        self._target = velocity[self._rows + 1] - velocity[self._rows]
        if not np.ptp(self._target) > 0.0:
            raise NoDelayFound("no response: the velocity of the joint never changed")
        self._others = self._features()
        self._block = np.arange(len(self._rows)) * BLOCKS // len(self._rows)

    def _features(self) -> Array:
        """What is known of the state at each sample, [n, features], scaled; what does not vary is one column."""
        recording, rows = self._recording, self._rows
        columns = [recording.velocities[rows, self._joint]]
        for joint, angular in enumerate(recording.angular):
            position = recording.positions[rows, joint]
            columns += [np.sin(position), np.cos(position)] if angular else [position]
            if joint != self._joint:
                columns.append(recording.velocities[rows, joint])
        varying = [column - column.mean() for column in columns]
        kept = [column / column.std() for column in varying if column.std() > 1e-12]
        # Orthogonal, and without what is a combination of others: normal equations are solved by the thousand.
        basis, singular, _ = np.linalg.svd(np.array(kept).T, full_matrices=False)
        basis = basis[:, singular > 1e-6 * singular[0]] * np.sqrt(len(rows))
        return np.column_stack([np.ones(len(rows)), basis])

    def candidates(self, begin: float, end: float, step: float) -> Array:
        return np.arange(begin, end + 0.5 * step, step)

    def best(self, delays: Array) -> float:
        return float(delays[np.argmin(_residuals(self.grams(delays).sum(axis=1)))])

    def grams(self, delays: Array) -> Array:
        """Normal matrices [delays, blocks, p, p] of the columns input, others, target."""
        target = self._target / self._target.std()
        known = np.column_stack([self._others, target])
        result = np.zeros((len(delays), BLOCKS, known.shape[1] + 1, known.shape[1] + 1))
        members = [self._block == block for block in range(BLOCKS)]
        for index, delay in enumerate(delays):
            table = np.column_stack([self._input(delay), known])
            for block, rows in enumerate(members):
                part = table[rows]
                result[index, block] = part.T @ part
        return result

    def explained(self, delay: float) -> float:
        """Share of the error without the input that it explains. Raises NoDelayFound where that is little."""
        gram = self.grams(np.array([delay])).sum(axis=1)
        left, without = float(_residuals(gram)[0]), float(_residuals(gram[:, 1:, 1:])[0])
        share = 1.0 - left / without if without > 0.0 else 0.0
        free = len(self._rows) - gram.shape[1]
        if share < LEAST_EXPLAINED or share / max(1.0 - share, 1e-12) * free < LEAST_F:
            raise NoDelayFound(
                f"no response: the commands explain {100.0 * share:.1f} % of what the velocity does, expected at least"
                f" {100.0 * LEAST_EXPLAINED:g} %; a larger amplitude may help"
            )
        return share

    def rate_at(self, delay: float) -> float:
        """Rate λ of the response that the fit at `delay` shows."""
        kept = 1.0 + self._own_coefficient(delay)
        highest = LARGEST_RATE / self.interval
        return float(np.clip(-np.log(kept) / self.interval, 0.0, highest)) if kept > 0.0 else highest

    def _own_coefficient(self, delay: float) -> float:
        """What a change of the joint's velocity alone would change in the fit."""
        recording, rows = self._recording, self._rows
        columns = [recording.velocities[rows, self._joint], self._input(delay), np.ones(len(rows))]
        for joint, angular in enumerate(recording.angular):
            position = recording.positions[rows, joint]
            columns.append(np.sin(position) if angular else position)
            if joint != self._joint:
                columns.append(recording.velocities[rows, joint])
        table = np.array(columns).T
        scale = np.linalg.norm(table, axis=0)
        scale[scale == 0.0] = 1.0
        solution = np.linalg.lstsq(table / scale, self._target, rcond=1e-9)[0] / scale
        return float(solution[0])

    def _input(self, delay: float) -> Array:
        """w(t, delay) [n], scaled to a standard deviation of one."""
        times = self._recording.sample_times
        after = self._filtered(times[self._rows + 1] - delay)
        before = self._filtered(times[self._rows] - delay)
        values = after - np.exp(-self.rate * self._steps) * before
        deviation = values.std()
        return np.asarray(values / deviation if deviation > 0.0 else values)

    def _filtered(self, at: Array) -> Array:
        """Solution of w' = u - λ w at times `at`, from 0 at the first command on."""
        times, commands = self._recording.command_times, self._recording.commands[:, self._action]
        lasted = np.diff(times)
        at_commands = np.zeros(len(times))
        kept, gained = np.exp(-self.rate * lasted), self._gain(lasted) * commands[:-1]
        for index in range(len(lasted)):
            at_commands[index + 1] = kept[index] * at_commands[index] + gained[index]
        last = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 1)
        since = np.maximum(at - times[last], 0.0)
        return np.asarray(np.exp(-self.rate * since) * at_commands[last] + self._gain(since) * commands[last])

    def _gain(self, seconds: Array) -> Array:
        """Integral of exp(-λ s) over so many seconds."""
        return np.asarray(seconds if self.rate == 0.0 else -np.expm1(-self.rate * seconds) / self.rate)


def _residuals(grams: Array) -> Array:
    """Squared errors [n] of the last column of normal matrices [n, p, p] on the others."""
    regressors, products = grams[:, :-1, :-1], grams[:, :-1, -1]
    ridge = 1e-10 * np.trace(regressors, axis1=1, axis2=2)[:, None, None] * np.eye(regressors.shape[-1])
    solution = np.linalg.solve(regressors + ridge, products[..., None])[..., 0]
    left = grams[:, -1, -1] - np.einsum("np,np->n", products, solution)
    return np.asarray(np.maximum(left, 0.0))


def _minimum(delays: Array, errors: Array) -> float:
    """Where the errors are least, between candidates by a parabola."""
    index = int(np.argmin(errors))
    if not 0 < index < len(delays) - 1:
        return float(delays[index])
    before, here, after = errors[index - 1 : index + 2]
    curvature = before - 2.0 * here + after
    shift = 0.5 * (before - after) / curvature if curvature > 0.0 else 0.0
    return float(delays[index] + shift * (delays[1] - delays[0]))
