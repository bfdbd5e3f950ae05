// SPDX-License-Identifier: Apache-2.0
#include "rollout.hpp"

const Variant kAvx2 = {"avx2", false, item_count, scratch_floats, run_item<Float32>};
