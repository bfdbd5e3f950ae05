// SPDX-License-Identifier: Apache-2.0
// What a variant of the code, compiled for one instruction set, offers to the library.
#ifndef MBRL_KERNELS_VARIANT_HPP_
#define MBRL_KERNELS_VARIANT_HPP_

#include "kernels.h"

struct Variant {
  const char *name;
  MbrlLayout layout;
  int64_t (*item_count)(const MbrlRollout &rollout);
  int64_t (*scratch_floats)(const MbrlModel &model, const MbrlRollout &rollout);
  void (*run_item)(const MbrlModel &model, const MbrlRollout &rollout, int64_t item, float *scratch);
};

extern const Variant kGeneric, kAvx2, kAvx512, kAvx512Bf16, kAmxBf16;

#endif  // MBRL_KERNELS_VARIANT_HPP_
