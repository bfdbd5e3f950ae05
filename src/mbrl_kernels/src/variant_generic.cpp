// SPDX-License-Identifier: Apache-2.0
#include "rollout.hpp"

const Variant kGeneric = {"generic", false, item_count, scratch_floats, run_item<Float32>};
