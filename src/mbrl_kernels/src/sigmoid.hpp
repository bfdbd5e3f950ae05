// SPDX-License-Identifier: Apache-2.0
// SiLU where bfloat16 follows and products are so cheap that it takes as long as they do: by a table in registers.
#ifndef MBRL_KERNELS_SIGMOID_HPP_
#define MBRL_KERNELS_SIGMOID_HPP_

#include "simd.hpp"

namespace {

// 1 / (1 + 2^a) is (kSquare[i] a + kLinear[i]) a + kConstant[i] with i the integer nearest to 2 a, up to 15.25, within
// 3e-5 and 3e-4 of the value: quadratic Chebyshev fits. Beyond it is nothing.
constexpr float kTableStep = 2.0f, kTableEnd = 15.5f;
alignas(64) constexpr float kSquare[32] = {
    2.59176339e-03f, 9.94932745e-03f, 1.77147072e-02f, 2.20617279e-02f, 2.30044723e-02f, 2.14218087e-02f,
    1.84443127e-02f, 1.50174135e-02f, 1.17456634e-02f, 8.92509706e-03f, 6.64276723e-03f, 4.87135258e-03f,
    3.53476359e-03f, 2.54568760e-03f, 1.82360027e-03f, 1.30139187e-03f, 9.26231849e-04f, 6.57968165e-04f,
    4.66772151e-04f, 3.30819341e-04f, 2.34306237e-04f, 1.65870661e-04f, 1.17383934e-04f, 8.30508434e-05f,
    5.87497634e-05f, 4.15543363e-05f, 2.93893445e-05f, 2.07844005e-05f, 1.46982893e-05f, 1.03940092e-05f,
    7.35004915e-06f, 0.00000000e+00f,
};
alignas(64) constexpr float kLinear[32] = {
    -1.73519120e-01f, -1.77811787e-01f, -1.89245358e-01f, -1.99856758e-01f, -2.02939719e-01f, -1.95679635e-01f,
    -1.79242417e-01f, -1.56961754e-01f, -1.32448480e-01f, -1.08510658e-01f, -8.68665650e-02f, -6.83004409e-02f,
    -5.29572852e-02f, -4.06153835e-02f, -3.08835022e-02f, -2.33235508e-02f, -1.75173897e-02f, -1.30974166e-02f,
    -9.75606870e-03f, -7.24421861e-03f, -5.36454841e-03f, -3.96327954e-03f, -2.92199361e-03f, -2.15033512e-03f,
    -1.57985196e-03f, -1.15898321e-03f, -8.49072705e-04f, -6.21251762e-04f, -4.54032241e-04f, -3.31465359e-04f,
    -2.41742848e-04f, 0.00000000e+00f,
};
alignas(64) constexpr float kConstant[32] = {
    5.00002086e-01f, 5.00632524e-01f, 5.04864633e-01f, 5.11350751e-01f, 5.13862014e-01f, 5.05534172e-01f,
    4.82839614e-01f, 4.46613103e-01f, 4.00686741e-01f, 3.49888355e-01f, 2.98566580e-01f, 2.49913275e-01f,
    2.05876768e-01f, 1.67372450e-01f, 1.34580001e-01f, 1.07217245e-01f, 8.47513080e-02f, 6.65443540e-02f,
    5.19453846e-02f, 4.03427891e-02f, 3.11904661e-02f, 2.40172483e-02f, 1.84265152e-02f, 1.40905250e-02f,
    1.07423365e-02f, 8.16702843e-03f, 6.19320106e-03f, 4.68525011e-03f, 3.53661762e-03f, 2.66406336e-03f,
    2.00289814e-03f, 0.00000000e+00f,
};

MBRL_INLINE __m512 look_up(__m512i index, const float *table) {
  return _mm512_permutex2var_ps(_mm512_load_ps(table), index, _mm512_load_ps(table + 16));
}

// z / (1 + 2^z), which is min(z, 0) + |z| / (1 + 2^|z|). NaN stays NaN.
MBRL_INLINE Vector z_sigmoid(Vector z) {
  const __m512 value = (__m512)z;
  const __m512 a = _mm512_range_ps(value, _mm512_set1_ps(kTableEnd), 0xa);  // the lesser magnitude, without its sign
  const __m512i index = _mm512_castps_si512(_mm512_fmadd_ps(a, _mm512_set1_ps(kTableStep), _mm512_set1_ps(kRound)));
  __m512 share = _mm512_fmadd_ps(look_up(index, kSquare), a, look_up(index, kLinear));
  share = _mm512_fmadd_ps(share, a, look_up(index, kConstant));
  const __m512 below = _mm512_min_ps(_mm512_setzero_ps(), value);  // NaN where its second operand is
  return (Vector)_mm512_fmadd_ps(share, a, below);
}

}  // namespace

#endif  // MBRL_KERNELS_SIGMOID_HPP_
