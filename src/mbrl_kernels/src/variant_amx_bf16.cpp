// SPDX-License-Identifier: Apache-2.0
#include "rollout.hpp"

namespace {

void run_item_in_tiles(const MbrlModel &model, const MbrlRollout &rollout, int64_t item, float *scratch) {
  const TileRegisters registers;
  run_item<Bfloat16Tiles>(model, rollout, item, scratch);
}

}  // namespace

const Variant kAmxBf16 = {"amx_bf16", MBRL_BFLOAT16_TILES, item_count, scratch_floats<Bfloat16Tiles>,
                          run_item_in_tiles};
