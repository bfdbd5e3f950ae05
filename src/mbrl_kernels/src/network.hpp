// SPDX-License-Identifier: Apache-2.0
// One member's network for a group of rows, which are the lanes of R vectors: every layer reads its inputs from the
// first-level cache and writes the next one's, activated, straight from the registers they were summed up in.
#ifndef MBRL_KERNELS_NETWORK_HPP_
#define MBRL_KERNELS_NETWORK_HPP_

#include "kernels.h"
#include "simd.hpp"
#if defined(__AMX_BF16__)
#include "tiles.hpp"
#endif

namespace {

constexpr int kTile = MBRL_TILE;
// Outputs summed up at a time: with R = 3, as many accumulators as registers hold beside the operands.
constexpr int kOutputs = kLanes == 16 ? 8 : 4;
#if defined(__AMX_BF16__)
constexpr int kMostVectors = 2;
#else
constexpr int kMostVectors = 3;
#endif

template <class Product, class Result, int R>
void vector_layer(const float *weights, const float *bias, const float *from, int elements, int outputs, float *to);

// How a layer is multiplied where weights come in tiles of 8 outputs. An element is 32 bits: one float32, or two
// neighbouring inputs in bfloat16.
template <class Product, int kInputsPerElement>
struct ByElements {
  template <class Result, int R>
  static void layer(const float *weights, const float *bias, const float *from, int inputs, int outputs, float *to) {
    vector_layer<Product, Result, R>(weights, bias, from, inputs / kInputsPerElement, outputs, to);
  }
  static int64_t weight_floats(int64_t inputs, int64_t outputs) { return inputs / kInputsPerElement * outputs; }
  static int64_t hidden_elements(int64_t size) { return size / kInputsPerElement; }
};

struct Float32 : ByElements<Float32, 1> {
  static MBRL_INLINE Vector multiply_add(Vector sum, const float *weight, Vector input) {
    return sum + *weight * input;
  }
  static MBRL_INLINE Vector activate(Vector z) { return z / (1.0f + exp2<true>(z)); }
  static MBRL_INLINE void store_outputs(float *to, int row_count, int output, Vector first, Vector second) {
    store(to + output * row_count, first);
    store(to + (output + 1) * row_count, second);
  }
};

#if defined(__AVX512BF16__)
struct Bfloat16 : ByElements<Bfloat16, 2> {
  static MBRL_INLINE Vector multiply_add(Vector sum, const float *weight, Vector input) {
    const __m512 pair = _mm512_set1_ps(*weight);
    return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)pair, (__m512bh)input);
  }
  static MBRL_INLINE Vector activate(Vector z) {
    return z * (Vector)_mm512_rcp14_ps((__m512)(1.0f + exp2<false>(z)));
  }
  static MBRL_INLINE void store_outputs(float *to, int row_count, int output, Vector first, Vector second) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
    store(to + output / 2 * row_count, (Vector)_mm512_permutexvar_epi16(order, both));
  }
};
#endif

struct Raw {  // the last layer's outputs are not activated and stay float32
  static MBRL_INLINE Vector activate(Vector z) { return z; }
  static MBRL_INLINE void store_outputs(float *to, int row_count, int output, Vector first, Vector second) {
    Float32::store_outputs(to, row_count, output, first, second);
  }
};

// to = activate(weights . from + bias) for `outputs` outputs. from [elements][R vectors], weights [outputs / 8]
// [elements][8].
template <class Product, class Result, int R>
__attribute__((noinline)) void vector_layer(const float *weights, const float *bias, const float *from, int elements,
                                            int outputs, float *to) {
  constexpr int kRows = R * kLanes;
  for (int output = 0; output < outputs; output += kOutputs) {
    const float *weight = weights + (output / kTile * elements) * kTile + output % kTile;
    Vector sum[kOutputs][R];
#pragma GCC unroll 8
    for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 3
      for (int r = 0; r < R; ++r) sum[o][r] = splat(bias[output + o]);
    }
    const float *input = from;
    for (int element = 0; element < elements; ++element, weight += kTile, input += kRows) {
      Vector x[R];
#pragma GCC unroll 3
      for (int r = 0; r < R; ++r) x[r] = load(input + r * kLanes);
#pragma GCC unroll 8
      for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 3
        for (int r = 0; r < R; ++r) sum[o][r] = Product::multiply_add(sum[o][r], weight + o, x[r]);
      }
    }
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; o += 2) {
#pragma GCC unroll 3
      for (int r = 0; r < R; ++r) {
        Result::store_outputs(to + r * kLanes, kRows, output + o, Result::activate(sum[o][r]),
                              Result::activate(sum[o + 1][r]));
      }
    }
  }
}

// Buffers for one group of rows, each [..][R vectors]; `scratch` as long as `network_floats` says.
struct Buffers {
  float *inputs, *hidden[2], *outputs;
};

inline int64_t input_count(const MbrlModel &model) {
  return model.linear_count + 2 * model.angular_count + model.action_size;
}

template <class Product>
int64_t network_floats(const MbrlModel &model) {
  const int64_t hidden = 2 * Product::hidden_elements(model.hidden_size);
  return (input_count(model) + hidden + model.output_size) * kMostVectors * kLanes;
}

// What pads the hidden units stays zero: no layer writes it.
template <class Product>
Buffers network_buffers(const MbrlModel &model, float *scratch) {
  const int64_t rows = kMostVectors * kLanes, hidden = Product::hidden_elements(model.hidden_size) * rows;
  float *first = scratch + input_count(model) * rows;
  memset(first, 0, 2 * hidden * sizeof(float));
  return {scratch, {first, first + hidden}, first + 2 * hidden};
}

// From `buffers.inputs` to `buffers.outputs`.
template <class Product, int R>
void network(const MbrlModel &model, int member, const Buffers &buffers) {
  const int64_t size = model.hidden_size, inputs = input_count(model);
  const float *bias = model.hidden_bias + member * model.hidden_layers * size;
  // The first layer is small, and positions in bfloat16 would be coarse: float32 always.
  vector_layer<Float32, Product, R>(model.first + member * inputs * size, bias, buffers.inputs, inputs, size,
                                    buffers.hidden[0]);
  const int64_t floats = Product::weight_floats(size, size);
  const float *weights = (const float *)model.hidden + member * (model.hidden_layers - 1) * floats;
  int current = 0;
  for (int index = 1; index < model.hidden_layers; ++index, weights += floats, current = 1 - current) {
    Product::template layer<Product, R>(weights, bias + index * size, buffers.hidden[current], size, size,
                                        buffers.hidden[1 - current]);
  }
  Product::template layer<Raw, R>((const float *)model.out + member * Product::weight_floats(size, model.output_size),
                                  model.out_bias + member * model.output_size, buffers.hidden[current], size,
                                  model.output_size, buffers.outputs);
}

}  // namespace

#endif  // MBRL_KERNELS_NETWORK_HPP_
