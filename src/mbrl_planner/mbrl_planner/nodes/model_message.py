# SPDX-License-Identifier: Apache-2.0
"""From a model message to a model that can be planned with."""

import json

from mbrl_core.checkpoint import CheckpointError, decode_arrays
from mbrl_core.config import ConfigurationError
from mbrl_core.specs import RobotSpec
from mbrl_dynamics.model import DynamicsModel, ModelError
from mbrl_dynamics.registry import make_model
from mbrl_msgs.msg import Model as ModelMessage
from mbrl_ros.conversions import MessageError, check_interface, check_layout, checked_weights


def model_from_message(message: ModelMessage, spec: RobotSpec) -> DynamicsModel:
    """Model of a Model message.

    Raises MessageError on another interface or layout, an unknown kind, a configuration that does not fit, and weights
    that are damaged, cut short, of another shape or not finite.
    """
    check_layout("model", message.version_of_layout, ModelMessage.VERSION)
    check_interface("model", message.interface_hash, spec)
    source = f"model: weights of version {message.version} from {message.producer!r}"
    weights = checked_weights(message, "damaged_model", source)
    try:
        arrays = decode_arrays(weights, source)
        configuration = json.loads(message.configuration)
        if not isinstance(configuration, dict):
            raise ConfigurationError(f"configuration is {message.configuration!r}, expected a JSON object")
        model = make_model(message.kind, configuration, spec, 0)
        model.load_arrays(arrays)
    except CheckpointError as error:
        raise MessageError("damaged_model", str(error)) from None
    except (ConfigurationError, ModelError, json.JSONDecodeError) as error:
        raise MessageError(
            "invalid_model", f"model: version {message.version} from {message.producer!r}: {error}"
        ) from None
    return model
