// SPDX-License-Identifier: Apache-2.0
#include "rollout.hpp"

const Variant kGeneric = {"generic", MBRL_FLOAT32, item_count, scratch_floats<Float32>, run_item<Float32>};
