# SPDX-License-Identifier: Apache-2.0
"""Guided cost learning, and its adversarial relative: a reward from demonstrations on a robot of unknown dynamics."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mbrl_core.demonstrations import Demonstration, check_demonstrations
from mbrl_core.learned_reward import LearnedReward
from mbrl_core.random_streams import stream_seed
from mbrl_core.specs import Array, RobotSpec
from mbrl_dynamics.model import DynamicsModel
from mbrl_policy.irl.guided_config import GuidedCostConfig
from mbrl_policy.irl.guided_losses import Samples, adversarial_loss, episode_loss, guided_loss, regularisers
from mbrl_policy.irl.proposals import Guide, Noise, Proposals, tensor
from mbrl_policy.irl.reward_model import LEAST_SCALE, RewardConfig, RewardModel

KEPT = 3  # rewards whose episodes came nearest to what was shown


@dataclass(frozen=True)
class GuidedProgress:
    """What an iteration came to: see the fields' names.

    `likelihood` is the importance-sampled log likelihood of a demonstrated window, nats; `effective` the share of the
    samples that carry its partition function, before weights are flattened; `better` the share of windows in which the
    proposal's mean earns at least what the demonstration does: near one half when the reward explains what was shown.
    """

    iteration: int
    likelihood: float
    effective: float
    better: float


class GuidedCostLearning:
    """Finn, Levine and Abbeel 2016, "Guided cost learning: deep inverse optimal control via policy optimization".

    A demonstrated window tau_i of H steps has the log likelihood R(tau_i) - log Z_i, with the partition function of all
    trajectories that start where it does,

        Z_i = 1/J sum_j exp(R(tau_j)) / q(tau_j),   q = sum_k share_k prod_t q_k(u_t | x_t)

    over the samples of all proposals q_k that are kept; the demonstration joins them, among those of the first q, which
    is fitted to it. Each iteration improves q towards exp(R) (`Guide`), through `model`, known or learned from whatever
    the robot did, draws from it, and climbs the likelihood by

        grad = grad R(tau_i) - sum_j w_j grad R(tau_j),   w_j = exp(R(tau_j)) / q(tau_j), normalised in log space

    Weights are flattened, w^alpha, until the effective sample size is `least_effective`. Cutting demonstrations into
    windows keeps products of densities short, and asks of the reward what a planner that looks H steps ahead will ask.

    With the objective `adversarial` the same samples train the discriminator D = exp(f) / (exp(f) + q(u | x)),
    f = r(u, x') + gamma h(x') - h(x) (Fu, Luo and Levine 2018, "Learning robust rewards with adversarial inverse
    reinforcement learning"); r is what is kept.

    Raises ValueError on demonstrations of another robot, none, or none as long as a window.
    """

    def __init__(
        self,
        config: GuidedCostConfig,
        spec: RobotSpec,
        model: DynamicsModel,
        demonstrations: Sequence[Demonstration],
        seed: int,
    ) -> None:
        check_demonstrations(demonstrations, spec.state.size, spec.action.size)
        self.config, self.spec, self.seed, self.iteration = config, spec, seed, 0
        states, actions = _windows(config, demonstrations, np.random.default_rng(stream_seed(seed, 0, 0, "windows")))
        self.shown_states, self.shown_actions = tensor(states), tensor(actions)
        everything = [
            np.concatenate([getattr(item, part) for item in demonstrations]) for part in ("states", "actions")
        ]
        paired = np.concatenate([item.states[1:] for item in demonstrations]), everything[1]
        self.model = RewardModel(config, spec, *paired, stream_seed(seed, 0, 0, "reward"))
        self.averaged = copy.deepcopy(self.model)
        self.potential = RewardModel(_potential_config(config), spec, *paired, stream_seed(seed, 0, 0, "potential"))
        parameters = [*self.model.parameters()]
        if config.objective == "adversarial":
            parameters += [*self.potential.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)
        self.guide = Guide(model, spec, Noise(config.least_noise, config.most_noise), config.limit_weight)
        self.proposals: list[Proposals] = []
        self.samples: list[tuple[Tensor, Tensor]] = []
        self.shown_episodes = [(tensor(item.states), tensor(item.actions)) for item in demonstrations]
        self.episodes: list[tuple[Tensor, Tensor, float]] = []
        inputs = np.asarray(self.model.layout.inputs(*paired))
        self._shown_mean, self._shown_std = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), LEAST_SCALE)
        self._shown_inputs = (inputs - self._shown_mean) / self._shown_std
        self._nearest: list[tuple[float, LearnedReward]] = []

    def learn_from(self, model: DynamicsModel) -> None:
        """Proposals go through another model from now on, such as the same one that has learned more."""
        self.guide = Guide(model, self.spec, self.guide.noise, self.guide.limit_weight)

    @torch.no_grad()
    def _average(self) -> None:
        for kept, new in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
            kept.lerp_(new, 1.0 - self.config.averaging)

    def add_episode(self, episode: Demonstration, log_density: float) -> float:
        """What the robot did when a planner followed `reward`: an episode of the length of the demonstrations.

        Returns its `distance` from what was shown; `nearest` has the rewards whose episodes came nearest, for later
        iterations may well lose them again.

        `log_density` is that of its actions: of the noise that was added to the planner's. Planners look everywhere,
        proposals only near what was shown: what a planner finds that nobody showed has to lose its reward. Raises
        ValueError on another robot's episode.
        """
        check_demonstrations([episode], self.spec.state.size, self.spec.action.size)
        self.episodes.append((tensor(episode.states), tensor(episode.actions), float(log_density)))
        del self.episodes[: -self.config.episode_memory]
        distance = self.distance(episode)
        self._nearest = sorted([*self._nearest, (distance, self.reward())], key=lambda item: item[0])[:KEPT]
        return distance

    def distance(self, episode: Demonstration) -> float:
        """How far an episode is from what was shown: the `energy_distance` of the inputs that the reward sees.

        Of several, take the mean: joined before, one that fails is hardly seen among others.
        """
        inputs = self.model.layout.inputs(episode.states[1:], episode.actions)
        return energy_distance((inputs - self._shown_mean) / self._shown_std, self._shown_inputs)

    @property
    def nearest(self) -> tuple[tuple[float, LearnedReward], ...]:
        """Up to three rewards, each with the distance of the one episode that followed it, nearest first."""
        return tuple(self._nearest)

    def best_reward(self) -> LearnedReward:
        """The one whose episode came nearest to what was shown; the present one where there was no episode."""
        return self._nearest[0][1] if self._nearest else self.reward()

    def reward(self) -> LearnedReward:
        """What has been learned so far."""
        return self.averaged.task(version=self.iteration + 1)

    def iterate(self, keep_going: Callable[[], bool] = lambda: True) -> GuidedProgress:
        """One iteration: better proposals, samples of them, and gradient steps on the reward; fewer of these once
        `keep_going` says no.
        """
        random = torch.Generator().manual_seed(stream_seed(self.seed, self.iteration, 0, "guided"))
        reward = self.reward().reward
        proposals = self._improved(random)
        limited = self.guide.limited(reward)
        better = _return(limited, proposals.states, proposals.actions) >= _return(
            limited, self.shown_states, self.shown_actions
        )
        if not self.proposals:
            # The first q is fitted to what was shown: noise about it, with feedback that keeps samples near.
            tracking = self.guide.tracking(
                self.shown_states, self.shown_actions, proposals.gains, self.config.most_noise
            )
            self._add(tracking, random)
        self._add(proposals, random)
        data = self._data()
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * _cosine(self.iteration / self.config.iterations)
        likelihoods, effective = [], []
        for _ in range(self.config.gradient_steps):
            if not keep_going():
                break
            index = torch.randperm(len(self.shown_states), generator=random)[: self.config.batch_windows]
            loss, told = self._loss(data, index)
            self.optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 100.0)
            self.optimiser.step()
            self._average()
            likelihoods.append(told[0])
            effective.append(told[1])
        self.iteration += 1
        return GuidedProgress(
            self.iteration, float(np.mean(likelihoods)), float(np.mean(effective)), float(better.double().mean())
        )

    def _improved(self, random: torch.Generator) -> Proposals:
        """Every other time from the last proposals' trajectories or what was shown, whichever is better, else from the
        best of random action sequences: what is locally best near a demonstration need not be what a planner finds.
        """
        reward, config = self.reward().reward, self.config
        limited = self.guide.limited(reward)
        if self.iteration % 2:
            states, actions = self._shot(limited, random)
        else:
            states, actions = self.shown_states, self.shown_actions
            if self.proposals:
                last = self.proposals[-1]
                ahead = _return(limited, last.states, last.actions) > _return(limited, states, actions)
                states, actions = (
                    torch.where(ahead[:, None, None], own, shown)
                    for own, shown in ((last.states, states), (last.actions, actions))
                )
        return self.guide.improved(reward, states, actions, config.guide_iterations)

    def _shot(
        self, reward: Callable[[Tensor, Tensor, Tensor], Tensor], random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The best of random action sequences from each start, no action at all among them."""
        starts, horizon, width = self.shown_actions.shape
        drawn = torch.randn(starts, self.config.candidates, horizon, width, generator=random, dtype=torch.float64)
        red = drawn.cumsum(dim=2)
        scale = red.std(dim=2, keepdim=True).clamp_min(1e-6)
        wanted = (red - red.mean(dim=2, keepdim=True) * (drawn[:, :, :1, :1] > 0.0)) / scale * self.guide.half_range
        wanted = torch.clamp(0.7 * wanted, self.guide.lower, self.guide.upper)
        wanted[:, 0] = 0.0
        begin = self.shown_states[:, :1].expand(-1, self.config.candidates, -1)
        states, actions = self.guide.roll_out(begin, lambda _, step: wanted[:, :, step], horizon)
        with torch.no_grad():
            totals = reward(states[:, :, :-1], actions, states[:, :, 1:]).sum(dim=-1)
        best = torch.where(totals.isfinite(), totals, -torch.inf).argmax(dim=1)
        rows = torch.arange(starts)
        return states[rows, best], actions[rows, best]

    def _add(self, proposals: Proposals, random: torch.Generator) -> None:
        self.proposals.append(proposals)
        self.samples.append(self.guide.sampled(proposals, self.config.samples, random))
        # The first, fitted to what was shown, stays.
        if len(self.proposals) > self.config.memory + 1:
            del self.proposals[1], self.samples[1]

    def _data(self) -> Samples:
        states = torch.cat([self.shown_states[:, None], *(states for states, _ in self.samples)], dim=1)
        actions = torch.cat([self.shown_actions[:, None], *(actions for _, actions in self.samples)], dim=1)
        counts = torch.tensor([self.config.samples + (index == 0) for index in range(len(self.proposals))]).double()
        shares = (counts / counts.sum()).log()
        densities = torch.stack([q.step_log_densities(states, actions) for q in self.proposals])
        whole = torch.logsumexp(densities.sum(dim=-1) + shares[:, None, None], dim=0)
        steps = torch.logsumexp(densities + shares[:, None, None, None], dim=0)
        finite = states.isfinite().all(dim=-1).all(dim=-1)
        return Samples(states, actions, whole, steps, self.guide.limits(actions), finite)

    def _loss(self, data: Samples, index: Tensor) -> tuple[Tensor, tuple[float, float]]:
        """Of the starts `index`, and (likelihood, effective share)."""
        config, told = self.config, (math.nan, math.nan)
        if config.objective == "adversarial":
            loss = adversarial_loss(config, self.model, self.potential, data.rows(index))
        else:
            loss, told = guided_loss(config, self.model, data.rows(index))
        densities = torch.tensor([density for _, _, density in self.episodes], dtype=torch.float64)
        own = [item[:2] for item in self.episodes]
        loss = loss + episode_loss(config, self.model, self.shown_episodes, own, densities)
        return loss + regularisers(config, self.model, self.shown_states[index], self.shown_actions[index]), told


def energy_distance(first: Array, second: Array, most: int = 500) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| between samples [N, d] and [M, d]: zero for one distribution alone.

    Of each at most `most` rows, evenly spaced, are compared (Szekely and Rizzo 2013, "Energy statistics").
    """
    one, two = (torch.from_numpy(np.asarray(each)[:: -(-len(each) // most)]) for each in (first, second))
    return float(2.0 * torch.cdist(one, two).mean() - torch.cdist(one, one).mean() - torch.cdist(two, two).mean())


def _cosine(progress: float) -> float:
    """From 1 at 0 to a hundredth at 1 and after."""
    return max(0.01, 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))))


@torch.no_grad()
def _return(reward: Callable[[Tensor, Tensor, Tensor], Tensor], states: Tensor, actions: Tensor) -> Tensor:
    return reward(states[:, :-1], actions, states[:, 1:]).sum(dim=-1)


def _windows(
    config: GuidedCostConfig, demonstrations: Sequence[Demonstration], random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """States [B, H + 1, n] and actions [B, H, m] of windows, drawn evenly from each demonstration."""
    states, actions = [], []
    for demonstration in demonstrations:
        latest = len(demonstration) - config.horizon
        if latest < 0:
            continue
        # One from each of equal parts, the first at the very start.
        edges = np.linspace(0, latest, config.windows + 1)
        drawn = [0, *(int(random.uniform(*edges[part : part + 2])) for part in range(1, config.windows))]
        for first in sorted({min(first, latest) for first in drawn}):
            states.append(demonstration.states[first : first + config.horizon + 1])
            actions.append(demonstration.actions[first : first + config.horizon])
    if not states:
        longest = max(len(item) for item in demonstrations)
        raise ValueError(
            f"demonstrations: the longest of {len(demonstrations)} has {longest} steps, expected at least a window of"
            f" {config.horizon} (parameter 'horizon')"
        )
    return np.stack(states), np.stack(actions)


def _potential_config(config: GuidedCostConfig) -> RewardConfig:
    """h of the adversarial objective: a function of the state alone."""
    return RewardConfig(
        members=config.members, hidden=config.hidden, head="linear", angle_pairs=config.angle_pairs, first_effort=1e-9
    )
