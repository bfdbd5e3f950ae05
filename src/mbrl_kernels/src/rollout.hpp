// SPDX-License-Identifier: Apache-2.0
// The rollout of a group of candidates through the whole horizon, state and activations in cache.
#ifndef MBRL_KERNELS_ROLLOUT_HPP_
#define MBRL_KERNELS_ROLLOUT_HPP_

#include "network.hpp"
#include "variant.hpp"

namespace {

template <class Product, int R>
class Group {
 public:
  static constexpr int kRows = R * kLanes;

  // Candidates [begin, begin + count), count <= kRows; lanes beyond `count` compute with zeros and are not stored.
  Group(const MbrlModel &model, const MbrlRollout &rollout, int begin, int count, float *scratch)
      : model_(model), rollout_(rollout), begin_(begin), count_(count), size_(model.state_size),
        buffers_(network_buffers<Product>(model, scratch)) {
    mean_ = scratch + network_floats<Product>(model);
    deviation_ = mean_ + size_ * kRows;
    total_ = deviation_ + size_ * kRows;
    spread_ = total_ + size_ * kRows;
    members_ = spread_ + size_ * kRows;
    state_ = members_ + (int64_t)model.members * size_ * kRows;
  }

  static int64_t floats(const MbrlModel &model, int particles) {
    const int64_t own = 4 + model.members + particles;
    return network_floats<Product>(model) + own * model.state_size * kMostVectors * kLanes;
  }

  // Particles [first, last) of the group.
  void run(int first, int last) {
    for (int particle = first; particle < last; ++particle) {
      float *state = state_of(particle - first);
      for (int d = 0; d < size_; ++d) {
        for (int row = 0; row < kRows; ++row) state[d * kRows + row] = rollout_.state[d];
      }
      keep(0, particle, state);
    }
    for (int step = 0; step < rollout_.horizon; ++step) {
      load_actions(step);
      if (rollout_.propagation == MBRL_MOMENT_MATCHING) {
        match_moments(step, last - first);
      } else {
        for (int particle = first; particle < last; ++particle) advance(step, particle, state_of(particle - first));
      }
      for (int particle = first; particle < last; ++particle) keep(step + 1, particle, state_of(particle - first));
    }
  }

 private:
  float *state_of(int index) { return state_ + (int64_t)index * size_ * kRows; }

  const float *noise(int step, int particle) const {
    return rollout_.noise + ((int64_t)step * rollout_.particles + particle) * size_;
  }

  void load_actions(int step) {
    float *to = buffers_.inputs + (model_.linear_count + 2 * model_.angular_count) * kRows;
    for (int a = 0; a < model_.action_size; ++a, to += kRows) {
      const float *from = rollout_.actions + ((int64_t)step * model_.action_size + a) * rollout_.candidates + begin_;
      memset(to, 0, kRows * sizeof(float));
      memcpy(to, from, count_ * sizeof(float));
    }
  }

  void keep(int step, int particle, const float *state) {
    float *to = rollout_.states + ((int64_t)step * rollout_.particles + particle) * size_ * rollout_.candidates + begin_;
    for (int d = 0; d < size_; ++d, to += rollout_.candidates) memcpy(to, state + d * kRows, count_ * sizeof(float));
  }

  void encode(const float *state) {
    float *linear = buffers_.inputs, *sine = linear + model_.linear_count * kRows;
    float *cosine = sine + model_.angular_count * kRows;
    for (int i = 0; i < model_.linear_count; ++i) {
      memcpy(linear + i * kRows, state + model_.linear_index[i] * kRows, kRows * sizeof(float));
    }
    for (int i = 0; i < model_.angular_count; ++i) {
      for (int row = 0; row < kRows; row += kLanes) {
        Vector s, c;
        sine_cosine(load(state + model_.angular_index[i] * kRows + row), &s, &c);
        store(sine + i * kRows + row, s);
        store(cosine + i * kRows + row, c);
      }
    }
  }

  // Of the next state by `member`, for the state that was encoded: mean into `mean`, deviation into deviation_.
  void predict(int member, const float *state, float *mean) {
    network<Product, R>(model_, member, buffers_);
    const int inputs = input_count(model_);
    for (int d = 0; d < size_; ++d) {
      const float *linear = model_.linear + ((int64_t)member * size_ + d) * inputs;
      const float upper = model_.bounds[d], range = model_.bounds[size_ + d], offset = model_.bounds[2 * size_ + d];
      for (int row = 0; row < kRows; row += kLanes) {
        Vector next = load(buffers_.outputs + d * kRows + row);
        for (int i = 0; i < inputs; ++i) next += linear[i] * load(buffers_.inputs + i * kRows + row);
        store(mean + d * kRows + row, load(state + d * kRows + row) + next);
        const Vector below = softplus(upper - load(buffers_.outputs + (size_ + d) * kRows + row));
        store(deviation_ + d * kRows + row, exponential(offset + 0.5f * softplus(range - below)));
      }
    }
  }

  // Moments of the mixture of the members for `state`: mean_, and the total variance in deviation_.
  void predict_mixture(const float *state) {
    encode(state);
    const int values = size_ * kRows;
    const float share = 1.0f / model_.members;
    memset(spread_, 0, values * sizeof(float));
    memset(mean_, 0, values * sizeof(float));
    for (int member = 0; member < model_.members; ++member) {
      float *mean = members_ + (int64_t)member * values;
      predict(member, state, mean);
      for (int i = 0; i < values; ++i) {
        spread_[i] += deviation_[i] * deviation_[i];
        mean_[i] += mean[i];
      }
    }
    for (int i = 0; i < values; ++i) mean_[i] *= share;
    for (int member = 0; member < model_.members; ++member) {
      const float *mean = members_ + (int64_t)member * values;
      for (int i = 0; i < values; ++i) spread_[i] += (mean[i] - mean_[i]) * (mean[i] - mean_[i]);
    }
    for (int i = 0; i < values; ++i) deviation_[i] = share * spread_[i];
  }

  void sample(const float *mean, const float *deviation, const float *noise, float *state) {
    for (int d = 0; d < size_; ++d) {
      for (int row = 0; row < kRows; row += kLanes) {
        const int at = d * kRows + row;
        store(state + at, load(mean + at) + load(deviation + at) * noise[d]);
      }
    }
  }

  void root(float *values) {
    for (int i = 0; i < size_ * kRows; i += kLanes) store(values + i, square_root(load(values + i)));
  }

  void advance(int step, int particle, float *state) {
    if (rollout_.propagation == MBRL_SAMPLED) {
      encode(state);
      predict(rollout_.member[(int64_t)step * rollout_.particles + particle], state, mean_);
      sample(mean_, deviation_, noise(step, particle), state);
      return;
    }
    predict_mixture(state);
    if (rollout_.propagation == MBRL_MEAN) {
      memcpy(state, mean_, size_ * kRows * sizeof(float));
    } else {
      root(deviation_);
      sample(mean_, deviation_, noise(step, particle), state);
    }
  }

  // Moments over all particles and members; then every particle is drawn from that one Gaussian.
  void match_moments(int step, int particles) {
    const int values = size_ * kRows;
    const float share = 1.0f / particles;
    memset(total_, 0, values * sizeof(float));
    for (int particle = 0; particle < particles; ++particle) {
      float *state = state_of(particle);
      predict_mixture(state);
      memcpy(state, mean_, values * sizeof(float));
      for (int i = 0; i < values; ++i) total_[i] += deviation_[i];
    }
    memset(mean_, 0, values * sizeof(float));
    for (int particle = 0; particle < particles; ++particle) {
      for (int i = 0; i < values; ++i) mean_[i] += state_of(particle)[i];
    }
    for (int i = 0; i < values; ++i) mean_[i] *= share;
    for (int particle = 0; particle < particles; ++particle) {
      const float *mean = state_of(particle);
      for (int i = 0; i < values; ++i) total_[i] += (mean[i] - mean_[i]) * (mean[i] - mean_[i]);
    }
    for (int i = 0; i < values; ++i) total_[i] *= share;
    root(total_);
    for (int particle = 0; particle < particles; ++particle) {
      sample(mean_, total_, noise(step, particle), state_of(particle));
    }
  }

  const MbrlModel &model_;
  const MbrlRollout &rollout_;
  const int begin_, count_, size_;
  const Buffers buffers_;
  float *mean_, *deviation_, *total_, *spread_, *members_, *state_;
};

// The work is cut into items: so many candidates as R vectors hold, and one particle (with moment matching all).
int vector_count(const MbrlRollout &rollout) { return (rollout.candidates + kLanes - 1) / kLanes; }
int group_count(const MbrlRollout &rollout) { return (vector_count(rollout) + kMostVectors - 1) / kMostVectors; }
int particles_at_once(const MbrlRollout &rollout) {
  return rollout.propagation == MBRL_MOMENT_MATCHING ? rollout.particles : 1;
}

int64_t item_count(const MbrlRollout &rollout) {
  return (int64_t)group_count(rollout) * (rollout.particles / particles_at_once(rollout));
}

template <class Product>
int64_t scratch_floats(const MbrlModel &model, const MbrlRollout &rollout) {
  return Group<Product, 1>::floats(model, particles_at_once(rollout));
}

template <class Product>
void run_item(const MbrlModel &model, const MbrlRollout &rollout, int64_t item, float *scratch) {
  const int groups = group_count(rollout), vectors = vector_count(rollout), at_once = particles_at_once(rollout);
  const int64_t group = item % groups;
  const int particle = (int)(item / groups) * at_once;
  const int first = (int)(group * vectors / groups), last = (int)((group + 1) * vectors / groups);
  const int begin = first * kLanes;
  const int end = last * kLanes < rollout.candidates ? last * kLanes : rollout.candidates;
  switch (last - first) {
    case 1:
      return Group<Product, 1>(model, rollout, begin, end - begin, scratch).run(particle, particle + at_once);
    case 2:
      return Group<Product, 2>(model, rollout, begin, end - begin, scratch).run(particle, particle + at_once);
    default:
      return Group<Product, kMostVectors>(model, rollout, begin, end - begin, scratch)
          .run(particle, particle + at_once);
  }
}

}  // namespace

#endif  // MBRL_KERNELS_ROLLOUT_HPP_
