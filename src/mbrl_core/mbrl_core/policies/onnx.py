# SPDX-License-Identifier: Apache-2.0
"""Policies as ONNX graphs, for machines without this suite."""

import json
import math
from pathlib import Path

import numpy as np

from mbrl_core.checkpoint import write_atomically
from mbrl_core.policies.base import Policy, PolicyError
from mbrl_core.policies.fast import (
    FastFunction,
    FastLayers,
    FastMixture,
    FastNetwork,
    FastPolicy,
    FastRadial,
    FastTimeVarying,
)
from mbrl_core.policies.onnx_file import GraphBuilder, Value, model_bytes


def export_onnx(policy: Policy, path: str | Path) -> None:
    """Writes the policy without noise to an ONNX file, atomically: `Policy.mode` of a batch.

    Inputs: `state` float32 [batch, n], SI units in the order of the robot's spec; for kinds that depend on time also
    `step` int64 [batch], counted from the first time step of an episode and below the horizon. Output: `action`
    float32 [batch, m], normalised units, within the limits: of a mixture the heaviest component's mean, of chunks the
    first row, since a graph remembers no chunks before. Metadata name the kind, interface hash, states, actions and
    the scale of an action in its unit. Raises PolicyError for a kind whose `fast` form has no graph; OSError.
    """
    fast = policy.fast()
    builder = GraphBuilder()
    spec = policy.spec
    inputs = [Value("state", "float32", ("batch", spec.state.size))]
    if fast.horizon is not None:
        inputs.append(Value("step", "int64", ("batch",)))
    _add_policy(builder, fast, policy.kind)
    metadata = {
        "kind": policy.kind,
        "interface_hash": spec.interface_hash,
        "robot": spec.name,
        "period_s": repr(spec.period),
        "state_names": json.dumps(spec.state.names),
        "state_units": json.dumps(spec.state.units),
        "action_names": json.dumps(spec.action.names),
        "action_units": json.dumps(spec.action.units),
        "action_scale": json.dumps(spec.action.scale),
    }
    if fast.horizon is not None:
        metadata["horizon"] = str(fast.horizon)
    outputs = [Value("action", "float32", ("batch", spec.action.size))]
    write_atomically(path, model_bytes(builder, inputs, outputs, policy.kind, metadata))


def _add_policy(builder: GraphBuilder, fast: FastPolicy, kind: str) -> None:
    if isinstance(fast, FastTimeVarying):
        values, squash = _time_varying(builder, fast), False
    elif isinstance(fast, FastNetwork):
        values, squash = _function(builder, fast.function, _observation(builder, fast), kind), fast.squash
    else:
        raise PolicyError(f"policy {kind!r}: no ONNX graph for {type(fast).__name__}, its form for inference")
    if squash:
        assert isinstance(fast, FastNetwork)
        scaled = builder.add("Mul", builder.add("Tanh", values), _float(fast.half_range))
        builder.add("Add", scaled, _float(fast.centre), output="action")
    else:
        builder.add("Min", builder.add("Max", values, _float(fast.lower)), _float(fast.upper), output="action")


def _observation(builder: GraphBuilder, fast: FastNetwork) -> str:
    seen = fast.observation
    parts = []
    if len(seen.linear):
        parts.append(builder.add("Gather", "state", seen.linear.astype(np.int64), axis=1))
    if len(seen.angular):
        angles = builder.add("Gather", "state", seen.angular.astype(np.int64), axis=1)
        parts += [builder.add("Sin", angles), builder.add("Cos", angles)]
    values = builder.add("Concat", *parts, axis=1)
    return builder.add("Div", builder.add("Sub", values, _float(seen.shift)), _float(seen.scale))


def _function(builder: GraphBuilder, function: FastFunction, observation: str, kind: str) -> str:
    if isinstance(function, FastLayers):
        values = observation
        for index, (weight, bias) in enumerate(function.layers):
            values = builder.add("Tanh", values) if index else values
            values = builder.add("Gemm", values, weight, bias, transB=1)
        return values
    if isinstance(function, FastMixture):
        return _mixture(builder, function, observation)
    if isinstance(function, FastRadial):
        difference = builder.add("Sub", builder.add("Unsqueeze", observation, _integers(1)), function.centres)
        distance = builder.add("Mul", difference, function.inverse_length)
        squares = builder.add("ReduceSum", builder.add("Mul", distance, distance), _integers(2), keepdims=0)
        bumps = builder.add("Exp", builder.add("Mul", squares, _float(-0.5)))
        return builder.add("Gemm", bumps, function.weight, function.bias, transB=1)
    raise PolicyError(f"policy {kind!r}: no ONNX graph for {type(function).__name__}, its form for inference")


def _mixture(builder: GraphBuilder, function: FastMixture, observation: str) -> str:
    hidden = observation
    for weights, biases in function.hidden:
        hidden = builder.add("Tanh", builder.add("Gemm", hidden, weights, biases, transB=1))
    logits = builder.add("Gemm", hidden, *function.logits, transB=1)
    index = builder.add("ArgMax", logits, axis=1, keepdims=0)
    weight, bias = (builder.add("Gather", _float(values), index, axis=0) for values in function.means)
    product = builder.add("MatMul", weight, builder.add("Unsqueeze", hidden, _integers(2)))
    return builder.add("Add", builder.add("Squeeze", product, _integers(2)), bias)


def _time_varying(builder: GraphBuilder, fast: FastTimeVarying) -> str:
    nominal, gain, action = (
        builder.add("Gather", _float(values), "step", axis=0) for values in (fast.states, fast.gains, fast.actions)
    )
    error = builder.add("Sub", "state", nominal)
    # Whole turns, of angles only.
    shifted = builder.add("Div", builder.add("Add", error, _float(math.pi)), _float(2.0 * math.pi))
    turns = builder.add("Mul", builder.add("Floor", shifted), _float(2.0 * math.pi * fast.angular))
    wrapped = builder.add("Unsqueeze", builder.add("Sub", error, turns), _integers(2))
    return builder.add("Add", action, builder.add("Squeeze", builder.add("MatMul", gain, wrapped), _integers(2)))


def _float(values: float | np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def _integers(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)
