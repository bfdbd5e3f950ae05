# SPDX-License-Identifier: Apache-2.0
"""Action chunks: rows of a state, and the mean of overlapping chunks."""

import numpy as np
import pytest
import torch
from policy_problems import drawn_policy, states

from mbrl_core.policies import ChunkPolicy
from mbrl_core.policies.fast import ChunkMemory, FastChunks


@pytest.mark.parametrize("squash", [False, True])
def test_rows_are_those_of_the_network_and_the_first_is_what_acts(squash: bool) -> None:
    policy = drawn_policy(("chunks", {"squash": squash}))
    assert isinstance(policy, ChunkPolicy)
    batch = states(6).reshape(2, 3, 4)
    rows = policy.chunk(batch)
    assert rows.shape == (2, 3, 4, 2)
    limits = torch.tensor(policy.spec.action.lower), torch.tensor(policy.spec.action.upper)
    torch.testing.assert_close(rows[..., 0, :].clamp(*limits), policy.mode(batch))
    fast = policy.fast()
    assert isinstance(fast, FastChunks)
    for state in states(4):
        expected = policy.chunk(state).clamp(*limits).detach().numpy()
        np.testing.assert_allclose(fast.chunk(state.double().numpy()), expected, atol=2e-5, rtol=2e-5)


def test_overlapping_chunks_are_weighted_by_age() -> None:
    memory = ChunkMemory(ensembling=0.5)
    first, second, third = (np.arange(3.0)[:, None] + offset for offset in (0.0, 10.0, 20.0))
    memory.add(4, first)
    memory.add(5, second)
    memory.add(6, third)
    weights = np.exp(-0.5 * np.arange(3))  # the oldest has w_0 = 1
    np.testing.assert_allclose(memory.actions(6, 1)[0], weights @ [2.0, 11.0, 20.0] / weights.sum())
    rows = memory.actions(6, 5)
    assert len(rows) == 3  # no chunk reaches further
    np.testing.assert_allclose(rows[1], (12.0 + np.exp(-0.5) * 21.0) / (1.0 + np.exp(-0.5)))
    np.testing.assert_allclose(rows[2], 22.0)


def test_the_newest_alone_counts_where_ensembling_is_very_negative() -> None:
    memory = ChunkMemory(ensembling=-1000.0)
    for step in range(3):
        memory.add(step, np.full((3, 1), float(step)))
    np.testing.assert_allclose(memory.actions(2, 3), 2.0)


def test_what_is_over_is_forgotten() -> None:
    memory = ChunkMemory(ensembling=0.0)
    memory.add(0, np.zeros((2, 1)))
    memory.add(2, np.ones((2, 1)))  # steps between were lost
    np.testing.assert_array_equal(memory.actions(2, 2), np.ones((2, 1)))
    memory.add(2, np.full((2, 1), 3.0))  # asked again about the same step
    np.testing.assert_array_equal(memory.actions(2, 1), [[3.0]])
    memory.clear()
    assert memory.actions(2, 4).shape[0] == 0
