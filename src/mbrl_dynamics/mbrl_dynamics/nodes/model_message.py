# SPDX-License-Identifier: Apache-2.0
"""Model and LearnerStatus messages of a learner."""

import json
import math
import zlib
from collections.abc import Mapping

from builtin_interfaces.msg import Time

from mbrl_core.checkpoint import encode_arrays
from mbrl_dynamics.learner import OnlineLearner
from mbrl_dynamics.model import DynamicsModel
from mbrl_msgs.msg import LearnerStatus
from mbrl_msgs.msg import Model as ModelMessage


def learner_to_message(learner: OnlineLearner, producer: str, stamp: Time) -> ModelMessage:
    """Message of the published model."""
    metrics = {
        "prequential_error": learner.prequential_error,
        "held_out_error": learner.candidate_error,
        "transitions": float(learner.transitions),
    }
    if learner.report is not None:
        metrics |= {"training_loss": learner.report.loss, "fit_seconds": learner.report.seconds}
    return model_to_message(learner.published, learner.version, producer, stamp, metrics)


def model_to_message(
    model: DynamicsModel, version: int, producer: str, stamp: Time, metrics: Mapping[str, float] | None = None
) -> ModelMessage:
    """Message of a model, whole."""
    weights = encode_arrays(model.state_arrays())
    metrics = metrics or {}
    message = ModelMessage(
        version_of_layout=ModelMessage.VERSION,
        interface_hash=model.spec.interface_hash,
        kind=model.kind,
        producer=producer,
        version=version,
        configuration=json.dumps(model.configuration_mapping(), sort_keys=True),
        metric_names=list(metrics),
        metric_values=list(metrics.values()),
        weights=weights,
        crc32=zlib.crc32(weights),
    )
    message.header.stamp = stamp
    return message


def status_to_message(learner: OnlineLearner, episode: int, step: int, refused: int, stamp: Time) -> LearnerStatus:
    """Message that this time step has been digested."""
    report = learner.report
    message = LearnerStatus(
        version=LearnerStatus.VERSION,
        interface_hash=learner.published.spec.interface_hash,
        episode=episode,
        step=step,
        trained_through_episode=learner.trained_through_episode,
        transitions=learner.transitions,
        model_version=learner.version,
        training=learner.fitting,
        prequential_error=learner.prequential_error,
        training_loss=report.loss if report is not None else math.nan,
        fit_seconds=report.seconds if report is not None else math.nan,
        refused=refused,
    )
    message.header.stamp = stamp
    return message
