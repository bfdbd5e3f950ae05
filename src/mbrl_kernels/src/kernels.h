// SPDX-License-Identifier: Apache-2.0
// The library's interface, plain C: whole rollouts through a probabilistic ensemble of networks.
#ifndef MBRL_KERNELS_H_
#define MBRL_KERNELS_H_

#include <stdint.h>

#define MBRL_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

// Weights come in tiles of this many outputs; layer sizes are padded to it with zeros.
#define MBRL_TILE 8

enum MbrlPropagation {
  MBRL_SAMPLED = 0,          // a member for each particle and step (TS1, TS infinity)
  MBRL_MEAN = 1,             // the members' mean, one particle
  MBRL_DISTRIBUTION = 2,     // each particle from the Gaussian with the ensemble's moments
  MBRL_MOMENT_MATCHING = 3,  // all particles from the Gaussian with the moments over particles and members
};

// Of the weights of hidden layers but the first, and of the last; rounded up, what is added being zero.
enum MbrlLayout {
  MBRL_FLOAT32 = 0,         // [outputs / 8][inputs][8]
  MBRL_BFLOAT16_PAIRS = 1,  // [outputs / 8][inputs / 2][8][2]
  MBRL_BFLOAT16_TILES = 2,  // [outputs / 16][inputs / 32][16][32]
};

// A frozen ensemble. `inputs` = linear_count + 2 * angular_count + action_size, in this order: linear states, sines,
// cosines, actions. `packed` is a layer's weights in the variant's layout.
// Hidden units are -log2(e) times what they would be, so that SiLU needs no product: weights account for it.
struct MbrlModel {
  int32_t members, state_size, action_size, linear_count, angular_count;
  int32_t hidden_layers, hidden_size, output_size;  // the two sizes padded
  const int32_t *linear_index, *angular_index;
  const float *first;        // [members][hidden_size / 8][inputs][8]
  const float *hidden_bias;  // [members][hidden_layers][hidden_size]
  const void *hidden;        // [members][hidden_layers - 1][packed]
  const void *out;           // [members][packed]: mean of the change, log variance
  const float *out_bias;     // [members][output_size]
  const float *linear;       // [members][state_size][inputs]: the linear path to the mean
  const float *bounds;       // [3][state_size]: of the log variance, upper and range; summand of log deviation
};

struct MbrlRollout {
  int32_t candidates, horizon, particles, propagation, threads;
  const float *state;     // [state_size]
  const float *actions;   // [horizon][action_size][candidates]
  const int32_t *member;  // [horizon][particles], for MBRL_SAMPLED
  const float *noise;     // [horizon][particles][state_size], not for MBRL_MEAN
  float *states;          // [horizon + 1][particles][state_size][candidates], the result
  int32_t (*keep_going)(void);  // may be null; the calling thread asks it between pieces of work
};

// Variants of the code, best last; `usable` tells whether this processor can run one, `pays` whether it then is faster
// than those before it.
MBRL_API int32_t mbrl_variant_count(void);
MBRL_API const char *mbrl_variant_name(int32_t variant);
MBRL_API int32_t mbrl_variant_usable(int32_t variant);
MBRL_API int32_t mbrl_variant_pays(int32_t variant);
MBRL_API int32_t mbrl_variant_layout(int32_t variant);  // MbrlLayout

// Result: 0; 1 for a variant that is not usable here; 2 when there is no memory; 3 when keep_going said no.
MBRL_API int32_t mbrl_rollout(int32_t variant, const struct MbrlModel *model, const struct MbrlRollout *rollout);

#ifdef __cplusplus
}
#endif

#endif  // MBRL_KERNELS_H_
