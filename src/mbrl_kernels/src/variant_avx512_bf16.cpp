// SPDX-License-Identifier: Apache-2.0
#include "rollout.hpp"

const Variant kAvx512Bf16 = {"avx512_bf16", MBRL_BFLOAT16_PAIRS, item_count, scratch_floats<Bfloat16>,
                             run_item<Bfloat16>};
