# SPDX-License-Identifier: Apache-2.0
"""Exported policies, against torch: by an evaluation of our own, and by onnxruntime where there is one.

MBRL_ONNX_PYTHON names the interpreter of an environment that has onnx, onnxruntime and numpy; without it, the last
test skips.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_evaluation import OnnxFile
from policy_problems import CASES, HORIZON, SPEC, drawn_policy, name_of, states

from mbrl_core.policies import Policy, PolicyError, export_onnx
from mbrl_core.policies.fast import FastPolicy

RUNTIME = """
import json, sys
import numpy, onnx, onnxruntime
for path, inputs, target in json.load(sys.stdin):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = dict(numpy.load(inputs))
    numpy.save(target, session.run(None, given)[0])
"""


@pytest.fixture(params=CASES, ids=name_of)
def policy(request: pytest.FixtureRequest) -> Policy:
    return drawn_policy(request.param)


def inputs_of(policy: Policy, count: int) -> dict[str, np.ndarray]:
    values = {"state": states(count).numpy()}
    if policy.horizon is not None:
        values["step"] = np.arange(count) % HORIZON
    return values


def expected_of(policy: Policy, inputs: dict[str, np.ndarray]) -> np.ndarray:
    step = torch.from_numpy(inputs["step"]) if "step" in inputs else None
    return policy.mode(torch.from_numpy(inputs["state"]), step).detach().numpy()


def test_the_graph_computes_the_policy(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    export_onnx(policy, path)
    file = OnnxFile(path.read_bytes())
    assert file.operator_set == 17
    for count in (1, 40):
        inputs = inputs_of(policy, count)
        np.testing.assert_allclose(file.run(**inputs), expected_of(policy, inputs), atol=2e-5, rtol=2e-5)
    assert file.inputs["state"] == (np.float32, ["batch", 4])
    assert ("step" in file.inputs) == (policy.horizon is not None)
    assert file.outputs == {"action": (np.float32, ["batch", 2])}
    assert file.metadata["interface_hash"] == SPEC.interface_hash
    assert json.loads(file.metadata["action_scale"]) == [1.0, 1.0]


def test_a_policy_without_a_graph_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    class Constant(FastPolicy):
        def action(self, state, step):
            return self.lower

        def linearised(self, state, step):
            return self.lower, np.zeros((2, 4))

    policy = drawn_policy(CASES[0])
    policy.fast = lambda: Constant(SPEC.action)  # type: ignore[method-assign]
    with pytest.raises(PolicyError, match="no ONNX graph for Constant"):
        export_onnx(policy, tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif("MBRL_ONNX_PYTHON" not in os.environ, reason="no environment with onnxruntime (MBRL_ONNX_PYTHON)")
def test_onnxruntime_computes_the_policy(tmp_path: Path) -> None:
    jobs, expected = [], []
    for index, case in enumerate(CASES):
        policy = drawn_policy(case)
        model, inputs, target = (str(tmp_path / f"{index}.{end}") for end in ("onnx", "npz", "npy"))
        export_onnx(policy, model)
        values = inputs_of(policy, 20)
        np.savez(inputs, **values)
        jobs.append((model, inputs, target))
        expected.append(expected_of(policy, values))
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LD_LIBRARY_PATH")}
    subprocess.run(
        [os.environ["MBRL_ONNX_PYTHON"], "-c", RUNTIME], input=json.dumps(jobs).encode(), env=environment, check=True
    )
    for (_, _, target), wanted in zip(jobs, expected, strict=True):
        np.testing.assert_allclose(np.load(target), wanted, atol=2e-5, rtol=2e-5)
