// SPDX-License-Identifier: Apache-2.0
#include "rollout.hpp"

const Variant kAvx512Bf16 = {"avx512_bf16", true, item_count, scratch_floats, run_item<Bfloat16>};
