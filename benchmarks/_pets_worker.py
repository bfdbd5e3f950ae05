# SPDX-License-Identifier: Apache-2.0
"""mbrl-lib's side of the PETS benchmark: a learning run of its preset pets_cartpole_paper_version, asked step by step.

Model, trainer, data and optimiser are made by mbrl-lib's own functions from the configuration files in its package; the
robot is simulated by whoever asks. Runs in the baselines' environment.
"""

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import gymnasium
import mbrl
import mbrl.env.reward_fns
import mbrl.env.termination_fns
import mbrl.models
import mbrl.planning
import mbrl.util.common
import numpy as np
import torch
from _baselines import serve
from omegaconf import DictConfig, OmegaConf

PRESETS = Path(mbrl.__file__).parent / "examples" / "conf"
STATES, LIMIT = 4, 3.0  # of the cart-pole: state variables, largest action
INPUTS = 6  # of its network: sine and cosine instead of the angle, and the action


def configuration(seed: int, overrides: list[str], device: str) -> DictConfig:
    """The preset, with what its main file adds.

    `overrides` are NAME=VALUE of existing names, `device` is torch's name of where to compute. Raises ValueError that
    names an override that does not exist.
    """
    preset = OmegaConf.create(
        {
            "seed": seed,
            "device": device,
            "debug_mode": False,
            "algorithm": OmegaConf.load(PRESETS / "algorithm" / "pets.yaml"),
            "dynamics_model": OmegaConf.load(PRESETS / "dynamics_model" / "gaussian_mlp_ensemble.yaml"),
            "overrides": OmegaConf.load(PRESETS / "overrides" / "pets_cartpole_paper_version.yaml"),
            # The package lacks the file of this one.
            "action_optimizer": {
                "_target_": "mbrl.planning.CEMOptimizer",
                "num_iterations": "${overrides.cem_num_iters}",
                "elite_ratio": "${overrides.cem_elite_ratio}",
                "population_size": "${overrides.cem_population_size}",
                "alpha": "${overrides.cem_alpha}",
                "lower_bound": "???",
                "upper_bound": "???",
                "return_mean_elites": True,
                "device": "${device}",
                "clipped_normal": "${overrides.cem_clipped_normal}",
            },
        }
    )
    preset.dynamics_model.in_size = INPUTS
    for text in overrides:
        name, equals, _ = text.partition("=")
        if not equals or OmegaConf.select(preset, name) is None:
            raise ValueError(f"override {text!r}: expected NAME=VALUE of a name that the preset has")
    complete = OmegaConf.merge(preset, OmegaConf.from_dotlist(overrides))
    # mbrl-lib is written for a Hydra that makes only the outermost object.
    complete.algorithm.agent._recursive_ = False
    complete.dynamics_model._recursive_ = False
    return complete


class PetsRun:
    """What mbrl-lib's main function and its algorithm of PETS set up and do, cut into steps."""

    def __init__(self, seed: int, overrides: list[str], device: str) -> None:
        self._configuration = configuration(seed, overrides, device)
        self.device = torch.device(device)
        np.random.seed(seed)
        torch.manual_seed(seed)
        shapes = (STATES,), (1,)
        self._model = mbrl.util.common.create_one_dim_tr_model(self._configuration, *shapes)
        self._random = np.random.default_rng(seed)
        self._buffer = mbrl.util.common.create_replay_buffer(
            self._configuration,
            *shapes,
            rng=self._random,
            obs_type=np.double,
            action_type=np.double,
            reward_type=np.double,
        )
        spaces = SimpleNamespace(
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, shapes[0]),
            action_space=gymnasium.spaces.Box(-LIMIT, LIMIT, shapes[1], seed=seed + 2),
        )
        self._explorer = mbrl.planning.RandomAgent(spaces)
        self._generator = torch.Generator(self.device)
        self._generator.manual_seed(seed)
        environment = mbrl.models.ModelEnv(
            spaces,
            self._model,
            mbrl.env.termination_fns.no_termination,
            mbrl.env.reward_fns.cartpole_pets,
            generator=self._generator,
        )
        overridden = self._configuration.overrides
        self._trainer = mbrl.models.ModelTrainer(
            self._model, optim_lr=overridden.model_lr, weight_decay=overridden.model_wd
        )
        self._agent = mbrl.planning.create_trajectory_optim_agent_for_model(
            environment, self._configuration.algorithm.agent, num_particles=self._configuration.algorithm.num_particles
        )

    def explore(self) -> dict[str, Any]:
        """A random action."""
        return {"action": self._explorer.act().tolist()}

    def act(self, state: list[float]) -> dict[str, Any]:
        """The planned action, and seconds that it took."""
        begin = time.perf_counter()
        action = self._agent.act(np.array(state))
        return {"action": action.tolist(), "seconds": time.perf_counter() - begin}

    def add(
        self, state: list[float], action: list[float], next_state: list[float], reward: float, last: bool
    ) -> dict[str, Any]:
        """Stores a transition."""
        self._buffer.add(np.array(state), np.array(action), np.array(next_state), reward, False, last)
        return {}

    def fit(self) -> dict[str, Any]:
        """Trains the model on all data from its present weights; seconds, and the loss before and after."""
        losses: list[float] = []
        begin = time.perf_counter()
        mbrl.util.common.train_model_and_save_model_and_data(
            self._model,
            self._trainer,
            self._configuration.overrides,
            self._buffer,
            callback=lambda *arguments: losses.append(float(arguments[3])),
        )
        return {"seconds": time.perf_counter() - begin, "first_loss": losses[0], "last_loss": losses[-1]}

    def reset(self) -> dict[str, Any]:
        """Forgets the last plan, before a trial."""
        self._agent.reset()
        return {}

    def rewards(self, actions: list[list[float]], next_states: list[list[float]]) -> dict[str, Any]:
        """What the model's rollouts are rewarded with."""
        values = mbrl.env.reward_fns.cartpole_pets(torch.tensor(actions), torch.tensor(next_states))
        return {"rewards": values.ravel().tolist()}

    def save(self, path: str, progress: dict[str, Any]) -> dict[str, Any]:
        """Writes all that a run consists of to an npz file, atomically: it goes on as if it had never stopped."""
        normalizer, stored = self._model.input_normalizer, self._buffer.num_stored
        arrays = {
            "progress": np.array(json.dumps(progress)),
            "generators/numpy": np.array(json.dumps(self._random.bit_generator.state)),
            "generators/torch": torch.get_rng_state().numpy(),
            **({"generators/cuda": torch.cuda.get_rng_state().numpy()} if self.device.type == "cuda" else {}),
            "generators/model": self._generator.get_state().numpy(),
            "normalizer/mean": normalizer.mean.cpu().numpy(),
            "normalizer/std": normalizer.std.cpu().numpy(),
            "members": np.array(self._model.model.elite_models or [], dtype=np.int64),
            "plan": self._agent.optimizer.previous_solution.cpu().numpy(),
            **{f"data/{name}": getattr(self._buffer, name)[:stored] for name in BATCH},
            **{f"weights/{name}": value.cpu().numpy() for name, value in self._model.state_dict().items()},
        }
        for index, moments in self._trainer.optimizer.state_dict()["state"].items():
            arrays |= {f"adam/{index}/{name}": value.cpu().numpy() for name, value in moments.items()}
        # numpy would add ".npz" to a name that ends differently.
        unfinished = f"{path}.unfinished.npz"
        np.savez(unfinished, **arrays)
        os.replace(unfinished, path)
        return {}

    def restore(self, path: str) -> dict[str, Any]:
        """Goes on from a file of `save`."""
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        batch = [arrays[f"data/{name}"] for name in BATCH]
        if len(batch[0]):
            self._buffer.add_batch(*batch)
        weights = {name: torch.from_numpy(value) for name, value in _below("weights/", arrays).items()}
        self._model.load_state_dict(weights)
        if len(arrays["members"]):
            self._model.set_elite(arrays["members"].tolist())
        self._model.input_normalizer.mean = torch.from_numpy(arrays["normalizer/mean"]).to(self.device)
        self._model.input_normalizer.std = torch.from_numpy(arrays["normalizer/std"]).to(self.device)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _below("adam/", arrays).items():
            index, _, moment = name.partition("/")
            moments.setdefault(int(index), {})[moment] = torch.from_numpy(value)
        optimizer = self._trainer.optimizer
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        self._agent.optimizer.previous_solution = torch.from_numpy(arrays["plan"]).to(self.device)
        self._random.bit_generator.state = json.loads(str(arrays["generators/numpy"]))
        self._generator.set_state(torch.from_numpy(arrays["generators/model"]))
        torch.set_rng_state(torch.from_numpy(arrays["generators/torch"]))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(torch.from_numpy(arrays["generators/cuda"]))
        return {}


BATCH = ("obs", "action", "next_obs", "reward", "terminated", "truncated")  # in the order of ReplayBuffer.add_batch
runs: list[PetsRun] = []


def _below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """`do` names a method of PetsRun, or "begin"; the rest are its arguments."""
    name = question.pop("do")
    if name == "begin":
        torch.set_num_threads(1)
        runs[:] = [PetsRun(**question)]
        device = runs[0].device
        return {"version": mbrl.__version__, "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else ""}
    return getattr(runs[0], name)(**question)


serve(answer)
