// SPDX-License-Identifier: Apache-2.0
// Products in bfloat16 by matrix tiles (Intel AMX). A tile is 16 rows of 64 bytes: of weights 16 outputs by 32 inputs,
// of activations 16 pairs of inputs by 16 rows of the group, of sums 16 outputs by 16 rows of the group. So activations
// lie just as they do for vectors of pairs.
#ifndef MBRL_KERNELS_TILES_HPP_
#define MBRL_KERNELS_TILES_HPP_

#include "sigmoid.hpp"
#include "simd.hpp"

namespace {

constexpr int kTileRows = 16;
constexpr int kTileInputs = 32;
constexpr int kTileFloats = kTileRows * kTileInputs / 2;
constexpr int kTileBytes = kTileFloats * (int)sizeof(float);

constexpr int64_t tiles_of(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

// The compiler knows nothing of tile registers; their numbers are ours to keep apart. 0 to 3 are sums.
template <int number>
MBRL_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(number));
}

// Says nothing of memory, so that vector code may move across it: `tile_barrier` goes before the first of a layer.
template <int number>
MBRL_INLINE void tile_load(const float *from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(number));
}

template <int number>
MBRL_INLINE void tile_store(float *to) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"((int64_t)kTileBytes / kTileRows), "i"(number)
               : "memory");
}

template <int sums, int weights, int inputs>
MBRL_INLINE void tile_multiply_add() {
  asm volatile("tdpbf16ps %%tmm%c0, %%tmm%c1, %%tmm%c2" ::"i"(inputs), "i"(weights), "i"(sums));
}

MBRL_INLINE void tile_barrier() { asm volatile("" ::: "memory"); }

// The thread's tile registers, all of full size, for as long as this lives.
class TileRegisters {
 public:
  TileRegisters() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } configuration;
    asm volatile("ldtilecfg %0" ::"m"(configuration));
  }
  ~TileRegisters() { asm volatile("tilerelease"); }
  TileRegisters(const TileRegisters &) = delete;
  TileRegisters &operator=(const TileRegisters &) = delete;
};

// Sums of T tiles of outputs by R of rows: (t, r) in register t * R + r. Weights are read from the second-level cache
// and two tiles of rows let each serve twice; more rows would not stay in the first.
template <int T, int R>
struct TileBlock {
  static_assert(R == 1 || (R == 2 && T <= 2), "operands and sums have four registers each");
  static constexpr int64_t kWeightStride = kTileBytes / kTileRows, kInputStride = R * kTileBytes / kTileRows;

  static MBRL_INLINE void zero() {
    tile_zero<0>();
    if constexpr (T * R > 1) tile_zero<1>();
    if constexpr (T * R > 2) tile_zero<2>();
    if constexpr (T * R > 3) tile_zero<3>();
  }

  // `next` is how far the weights of the next tile of outputs are away.
  static MBRL_INLINE void multiply_add(const float *weights, int64_t next, const float *inputs) {
    tile_load<6>(inputs, kInputStride);
    tile_load<4>(weights, kWeightStride);
    tile_multiply_add<0, 4, 6>();
    if constexpr (R == 1) {
      if constexpr (T > 1) column<1, 5>(weights + next);
      if constexpr (T > 2) column<2, 7>(weights + 2 * next);
      if constexpr (T > 3) column<3, 4>(weights + 3 * next);
    } else {
      tile_load<7>(inputs + kLanes, kInputStride);
      tile_multiply_add<1, 4, 7>();
      if constexpr (T > 1) {
        tile_load<5>(weights + next, kWeightStride);
        tile_multiply_add<2, 5, 6>();
        tile_multiply_add<3, 5, 7>();
      }
    }
  }

  // To [T][R][16 outputs][16 rows].
  static MBRL_INLINE void store_sums(float *to) {
    tile_store<0>(to);
    if constexpr (T * R > 1) tile_store<1>(to + kTileFloats);
    if constexpr (T * R > 2) tile_store<2>(to + 2 * kTileFloats);
    if constexpr (T * R > 3) tile_store<3>(to + 3 * kTileFloats);
  }

 private:
  template <int sum, int number>
  static MBRL_INLINE void column(const float *weights) {
    tile_load<number>(weights, kWeightStride);
    tile_multiply_add<sum, number, 6>();
  }
};

// Sums that wait to be activated: `pairs` pairs of outputs from `output` on, of which `done` are.
template <class Result, int R>
struct Waiting {
  const float *sums, *bias;
  float *to;
  int output = 0, pairs = 0, done = 0;

  MBRL_INLINE void activate(int until) {
    for (; done < until; ++done) {
      const int tile = done / (kTileRows / 2), row = done % (kTileRows / 2) * 2, at = output + 2 * done;
      const float *sum = sums + tile * R * kTileFloats + row * kLanes;
      const Vector first = splat(bias[at]), second = splat(bias[at + 1]);
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r, sum += kTileFloats) {
        Result::store_outputs(to + r * kLanes, R * kLanes, at, Result::activate(load(sum) + first),
                              Result::activate(load(sum + kLanes) + second));
      }
    }
  }
};

// Tiles multiply while vector units activate what was summed up before.
template <class Result, int T, int R>
MBRL_INLINE void tile_block(const float *weights, const float *from, int depth, int output, int outputs, float *sums,
                            Waiting<Result, R> *waiting) {
  const int64_t next = (int64_t)depth * kTileFloats;
  weights += output / kTileRows * next;
  TileBlock<T, R>::zero();
  for (int k = 0; k < depth; ++k) {
    TileBlock<T, R>::multiply_add(weights + k * kTileFloats, next, from + k * kTileRows * R * kLanes);
    waiting->activate((k + 1) * waiting->pairs / depth);
  }
  TileBlock<T, R>::store_sums(sums);
  const int left = outputs - output;
  waiting->output = output;
  waiting->pairs = (left < T * kTileRows ? left : T * kTileRows) / 2;
  waiting->done = 0;
}

// As `vector_layer` is. weights [outputs / 16][inputs / 32][16][32], both rounded up.
template <class Result, int R>
__attribute__((noinline)) void tile_layer(const float *weights, const float *bias, const float *from, int inputs,
                                          int outputs, float *to) {
  constexpr int kTiles = 4 / R;
  alignas(64) float sums[4 * kTileFloats];
  const int depth = (int)tiles_of(inputs, kTileInputs);
  Waiting<Result, R> waiting{sums, bias, to};
  tile_barrier();
  int output = 0;
  for (; output + (kTiles - 1) * kTileRows < outputs; output += kTiles * kTileRows) {
    tile_block<Result, kTiles, R>(weights, from, depth, output, outputs, sums, &waiting);
  }
  for (; output < outputs; output += kTileRows) {
    tile_block<Result, 1, R>(weights, from, depth, output, outputs, sums, &waiting);
  }
  waiting.activate(waiting.pairs);
  tile_barrier();
}

struct Bfloat16Tiles {
  static MBRL_INLINE Vector activate(Vector z) { return z_sigmoid(z); }

  // Rounded to nearest; two outputs of one row become a pair.
  static MBRL_INLINE void store_outputs(float *to, int row_count, int output, Vector first, Vector second) {
    const Integers half = Integers{} + 0x8000;
    const Integers low = (Integers)((Unsigned)((Integers)first + half) >> 16), high = (Integers)second + half;
    store(to + output / 2 * row_count, (Vector)(low | (high & (int32_t)0xffff0000)));
  }

  template <class Result, int R>
  static void layer(const float *weights, const float *bias, const float *from, int inputs, int outputs, float *to) {
    tile_layer<Result, R>(weights, bias, from, inputs, outputs, to);
  }

  static int64_t weight_floats(int64_t inputs, int64_t outputs) {
    return tiles_of(outputs, kTileRows) * tiles_of(inputs, kTileInputs) * kTileFloats;
  }

  static int64_t hidden_elements(int64_t size) { return tiles_of(size, kTileInputs) * kTileInputs / 2; }
};

}  // namespace

#endif  // MBRL_KERNELS_TILES_HPP_
