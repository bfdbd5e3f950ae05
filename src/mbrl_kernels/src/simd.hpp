// SPDX-License-Identifier: Apache-2.0
// Vectors of float32 as wide as the including file's instruction set, and functions of them. Everything is in an
// unnamed namespace: the linker must not merge the variants.
#ifndef MBRL_KERNELS_SIMD_HPP_
#define MBRL_KERNELS_SIMD_HPP_

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define MBRL_INLINE inline __attribute__((always_inline))

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef int32_t Integers __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Unsigned __attribute__((vector_size(4 * kLanes)));

MBRL_INLINE Vector splat(float value) { return value - Vector{}; }

MBRL_INLINE Vector load(const float *from) {
  Vector value;
  memcpy(&value, from, sizeof value);
  return value;
}

MBRL_INLINE void store(float *to, Vector value) { memcpy(to, &value, sizeof value); }

// Adding and subtracting this rounds to the nearest integer, which is then in the low bits of the sum.
constexpr float kRound = 12582912.0f;
constexpr float kLog2E = 1.44269504088896341f;

// 2^x for `precise` to 1 unit in the last place or two, else to 8e-5: enough where bfloat16 follows. NaN stays NaN.
template <bool precise>
MBRL_INLINE Vector exp2(Vector x) {
#if defined(__AVX512F__)
  const Vector whole = (Vector)_mm512_roundscale_ps((__m512)x, 8);  // to nearest; no clamp: scalef saturates
#else
  x = x > 126.0f ? splat(126.0f) : x;
  x = x < -126.0f ? splat(-126.0f) : x;
  const Vector shifted = x + kRound, whole = shifted - kRound;
#endif
  const Vector f = x - whole;  // in [-1/2, 1/2]; minimax polynomials of relative error there
  Vector power;
  if (precise) {
    power = f * 1.327647111e-03f + 9.675541327e-03f;
    power = power * f + 5.550713276e-02f;
    power = power * f + 2.402211972e-01f;
    power = power * f + 6.931469671e-01f;
    power = power * f + 1.000000072f;
  } else {
    power = f * 5.517166134e-02f + 2.426111216e-01f;
    power = power * f + 6.932609869e-01f;
    power = power * f + 9.999280736e-01f;
  }
#if defined(__AVX512F__)
  return (Vector)_mm512_scalef_ps((__m512)power, (__m512)whole);
#else
  return power * (Vector)(((Integers)shifted << 23) + 0x3f800000);
#endif
}

MBRL_INLINE Vector exponential(Vector x) { return exp2<true>(x * kLog2E); }

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|); the logarithm as 2 artanh(e / (2 + e)).
MBRL_INLINE Vector softplus(Vector x) {
  const Vector magnitude = x < 0.0f ? -x : x;
  const Vector e = exponential(-magnitude), s = e / (2.0f + e), square = s * s;
  Vector series = square * (1.0f / 13.0f) + 1.0f / 11.0f;
  series = series * square + 1.0f / 9.0f;
  series = series * square + 1.0f / 7.0f;
  series = series * square + 1.0f / 5.0f;
  series = series * square + 1.0f / 3.0f;
  series = series * square + 1.0f;
  return 0.5f * (x + magnitude) + 2.0f * s * series;
}

MBRL_INLINE Vector square_root(Vector x) {
#if defined(__AVX512F__)
  return (Vector)_mm512_sqrt_ps((__m512)x);
#else
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = __builtin_sqrtf(x[lane]);
  return x;
#endif
}

MBRL_INLINE void sine_cosine(Vector x, Vector *sine, Vector *cosine) {
  // Cody and Waite's reduction to [-pi/4, pi/4] and the quadrant; Taylor series as Cephes fits them.
  const Vector shifted = x * 0.636619772367581f + kRound, whole = shifted - kRound;
  Vector r = x - whole * 1.5703125f;
  r = r - whole * 4.837512969970703125e-4f;
  r = r - whole * 7.54978995489188216e-8f;
  const Vector square = r * r;
  Vector s = square * -1.9515295891e-4f + 8.3321608736e-3f;
  s = (s * square + -1.6666654611e-1f) * square * r + r;
  Vector c = square * 2.443315711809948e-5f + -1.388731625493765e-3f;
  c = (c * square + 4.166664568298827e-2f) * square * square - 0.5f * square + 1.0f;
  const Integers quadrant = (Integers)shifted;
  const Integers odd = (quadrant & 1) != 0;
  const Integers sine_sign = (quadrant & 2) << 30, cosine_sign = ((quadrant + 1) & 2) << 30;
  *sine = (Vector)((Integers)(odd ? c : s) ^ sine_sign);
  *cosine = (Vector)((Integers)(odd ? s : c) ^ cosine_sign);
  const Integers near = (x < 8192.0f) & (x > -8192.0f);
  int32_t all_near = -1;
  for (int lane = 0; lane < kLanes; ++lane) all_near &= near[lane];
  for (int lane = 0; lane < kLanes && !all_near; ++lane) {
    if (near[lane]) continue;  // the others are far round, or not finite: slowly, but right
    (*sine)[lane] = sinf(x[lane]);
    (*cosine)[lane] = cosf(x[lane]);
  }
}

}  // namespace

#endif  // MBRL_KERNELS_SIMD_HPP_
