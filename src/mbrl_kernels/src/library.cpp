// SPDX-License-Identifier: Apache-2.0
// Which variant this processor can run, and the threads that share a rollout's work.
#include <atomic>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

#include "variant.hpp"

#ifdef MBRL_HAS_AMX_BF16
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

struct Choice {
  const Variant *variant;
  bool usable, pays;
};

#ifdef MBRL_HAS_AMX_BF16
// Whether tiles may be used: the kernel keeps their registers, 8 KB a thread, only for a process that asks for them.
bool tiles_are_permitted() {
  unsigned int eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned int kTile = 1u << 24, kBfloat16 = 1u << 22;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx & kTile) == 0 || (edx & kBfloat16) == 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // of Linux's asm/prctl.h, since 5.16
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

const std::vector<Choice> &choices() {
  static const std::vector<Choice> all = [] {
    std::vector<Choice> found{{&kGeneric, true, true}};
#if defined(MBRL_HAS_AVX2) || defined(MBRL_HAS_AVX512) || defined(MBRL_HAS_AVX512_BF16) || \
    defined(MBRL_HAS_AMX_BF16)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
#ifdef MBRL_HAS_AVX2
    found.push_back({&kAvx2, avx2, true});
#endif
#ifdef MBRL_HAS_AVX512
    found.push_back({&kAvx512, avx512, true});
#endif
#ifdef MBRL_HAS_AVX512_BF16
    // Intel's vector units multiply bfloat16 more slowly than float32. By maker: a measurement might change its mind.
    found.push_back({&kAvx512Bf16, avx512 && __builtin_cpu_supports("avx512bf16"), !__builtin_cpu_is("intel")});
#endif
#ifdef MBRL_HAS_AMX_BF16
    found.push_back({&kAmxBf16, avx512 && tiles_are_permitted(), true});
#endif
    return found;
  }();
  return all;
}

bool is_known(int32_t variant) { return variant >= 0 && variant < (int32_t)choices().size(); }

constexpr std::size_t kCacheLine = 64;

struct Scratch {
  explicit Scratch(int64_t floats) {
    const std::size_t bytes = (floats * sizeof(float) + kCacheLine - 1) / kCacheLine * kCacheLine;
    memory = static_cast<float *>(std::aligned_alloc(kCacheLine, bytes));
  }
  ~Scratch() { std::free(memory); }
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;
  float *memory;
};

}  // namespace

int32_t mbrl_variant_count(void) { return (int32_t)choices().size(); }

const char *mbrl_variant_name(int32_t variant) { return is_known(variant) ? choices()[variant].variant->name : ""; }

int32_t mbrl_variant_usable(int32_t variant) { return is_known(variant) && choices()[variant].usable; }

int32_t mbrl_variant_pays(int32_t variant) { return is_known(variant) && choices()[variant].pays; }

int32_t mbrl_variant_layout(int32_t variant) {
  return is_known(variant) ? choices()[variant].variant->layout : MBRL_FLOAT32;
}

int32_t mbrl_rollout(int32_t variant, const MbrlModel *model, const MbrlRollout *rollout) {
  if (!mbrl_variant_usable(variant)) return 1;
  const Variant &chosen = *choices()[variant].variant;
  const int64_t items = chosen.item_count(*rollout);
  std::atomic<int64_t> next{0};
  std::atomic<int32_t> result{0};
  // Items are independent of each other, so what comes out does not depend on which thread takes which.
  const auto work = [&](bool is_caller) {
    Scratch scratch(chosen.scratch_floats(*model, *rollout));
    if (scratch.memory == nullptr) {
      result = 2;
      return;
    }
    for (int64_t item = next++; item < items && result == 0; item = next++) {
      if (is_caller && rollout->keep_going != nullptr && !rollout->keep_going()) {
        result = 3;
        return;
      }
      chosen.run_item(*model, *rollout, item, scratch.memory);
    }
  };
  std::vector<std::thread> helpers;
  try {
    for (int64_t i = 1; i < rollout->threads && i < items; ++i) helpers.emplace_back(work, false);
  } catch (const std::exception &) {
    // Fewer threads than wished for do the same work.
  }
  work(true);
  for (std::thread &helper : helpers) helper.join();
  return result;
}
