// The sublayers of one new token a row: all of attention, all of the feed-forward, in a call each.
#include "few_rows.h"

namespace {

// By a polynomial of degree 7 on [-ln(2)/2, ln(2)/2]; the loops that call it are vectorised. x <= 0 here.
static inline float exponential(float x) {
  x = std::max(x, -87.0f);
  const float whole = std::nearbyint(x * 1.44269504f);
  const float rest = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
  float result = 1;
  for (int i = 7; i >= 1; --i) result = result * rest * (1.0f / i) + 1.0f;
  const uint32_t bits = uint32_t(int32_t(whole) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, 4);
  return result * power;
}
static inline double exponential(double x) { return std::exp(x); }

struct Heads {
  Index number, shared, width;  // shared: of keys and values
};

template <class T>
struct Slot {
  T *keys, *values;
  Index room, length;  // length: with the new token
};

// Each pair (x_i, x_{i + width/2}) turned by its angle.
template <class W>
void turn(W *x, Index width, const W *cosines, const W *sines) {
  const Index half = width / 2;
#pragma omp simd
  for (Index i = 0; i < half; ++i) {
    const W a = x[i], b = x[i + half];
    x[i] = a * cosines[i] - b * sines[i];
    x[i + half] = b * cosines[i] + a * sines[i];
  }
}

// softmax(q k^T / sqrt(width)) v of one head. scratch: as many numbers as tokens.
template <class T>
void mix(const Wide<T> *query, const T *keys, const T *values, Index width, Index length, Wide<T> *scratch, Wide<T> *out) {
  using W = Wide<T>;
  const W scale = W(1) / std::sqrt(W(width));
  W largest = -HUGE_VAL, total = 0;
  for (Index t = 0; t < length; ++t) {
    scratch[t] = scale * product(keys + t * width, query, width);
    largest = std::max(largest, scratch[t]);
  }
#pragma omp simd reduction(+ : total)
  for (Index t = 0; t < length; ++t) total += scratch[t] = exponential(scratch[t] - largest);
  std::fill(out, out + width, W(0));
  for (Index t = 0; t < length; ++t) {
    const T *value = values + t * width;
    const W weight = scratch[t] / total;
#pragma omp simd
    for (Index i = 0; i < width; ++i) out[i] += weight * W(wide(value[i]));
  }
}

// One head of keys and values of one row, with the queries that share it.
template <class T>
void mix_group(Wide<T> *queries, Wide<T> *key, const Wide<T> *value, Index each, Index width, Slot<T> slot,
               const Wide<T> *turns, Wide<T> *out) {
  using W = Wide<T>;
  std::vector<W> scratch(slot.length);
  const Index last = (slot.length - 1) * width;
  if (turns) turn(key, width, turns, turns + width / 2);
  for (Index i = 0; i < width; ++i) {
    store(slot.keys[last + i], key[i]);
    store(slot.values[last + i], value[i]);
  }
  for (Index head = 0; head < each; ++head) {
    if (turns) turn(queries + head * width, width, turns, turns + width / 2);
    mix(queries + head * width, slot.keys, slot.values, width, slot.length, scratch.data(), out + head * width);
  }
}

template <class T>
struct Attention {
  Map<T> query, key, value, output;
  Heads heads;
  const Wide<T> *frequencies;  // null: positions are not turned
  Index position;
};

template <class T>
void attend(const T *const *views, Index rows, Attention<T> layer, Slot<T> slot, T *out, int threads) {
  using W = Wide<T>;
  const Heads heads = layer.heads;
  const Index width = heads.width, each = heads.number / heads.shared, d = layer.query.inputs;
  const Index all = heads.number * width, few = heads.shared * width;
  std::vector<W> scratch(rows * (d + 2 * all + 2 * few) + width);
  W *x = scratch.data(), *query = x + rows * d, *mixed = query + rows * all, *key = mixed + rows * all;
  W *value = key + rows * few, *turns = value + rows * few;
  W *const to[] = {query, key, value};
  const Map<T> maps[] = {layer.query, layer.key, layer.value};
  for (int i = 0; i < 3; ++i) {
    if (i == 0 || views[i] != views[i - 1]) widened(views[i], rows * d, x);
    map_rows(maps[i], x, rows, to[i], threads);
  }
  for (Index i = 0; layer.frequencies && i < width / 2; ++i) {
    const W angle = W(layer.position) * layer.frequencies[i];
    turns[i] = std::cos(angle), turns[i + width / 2] = std::sin(angle);
  }
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (Index group = 0; group < rows * heads.shared; ++group) {
    const Index at = group * slot.room * width;
    const Slot<T> own = {slot.keys + at, slot.values + at, slot.room, slot.length};
    mix_group(query + group * each * width, key + group * width, value + group * width, each, width, own,
              layer.frequencies ? turns : nullptr, mixed + group * each * width);
  }
  map_rows(layer.output, mixed, rows, out, threads);
}

enum Activation { RELU, GELU, GELU_TANH, SILU };

template <class W>
void activate(W *x, Index count, int kind) {
  const W root = std::sqrt(W(0.5)), slope = std::sqrt(W(0.63661977236758134308));  // sqrt(1 / 2), sqrt(2 / pi)
  switch (kind) {
    case RELU:
      for (Index i = 0; i < count; ++i) x[i] = x[i] < 0 ? W(0) : x[i];  // what is not a number stays so
      break;
    case GELU:
      for (Index i = 0; i < count; ++i) x[i] = W(0.5) * x[i] * (W(1) + std::erf(x[i] * root));
      break;
    case GELU_TANH:
      for (Index i = 0; i < count; ++i)
        x[i] = W(0.5) * x[i] * (W(1) + std::tanh(slope * (x[i] + W(0.044715) * x[i] * x[i] * x[i])));
      break;
    case SILU:
      for (Index i = 0; i < count; ++i) x[i] = x[i] / (W(1) + std::exp(-x[i]));
  }
}

// gate.weight null: the inner map is activated itself.
template <class T>
void feed(const T *x, Index rows, Map<T> inner, Map<T> gate, Map<T> outer, int activation, T *out, int threads) {
  using W = Wide<T>;
  const Index d = inner.inputs, width = inner.outputs;
  std::vector<W> scratch(rows * (d + 2 * width));
  W *in = scratch.data(), *wide_in = in + rows * d, *gated = wide_in + rows * width;
  widened(x, rows * d, in);
  map_rows(inner, in, rows, wide_in, threads);
  if (gate.weight) {
    map_rows(gate, in, rows, gated, threads);
    activate(gated, rows * width, activation);
    for (Index i = 0; i < rows * width; ++i) wide_in[i] *= gated[i];
  } else {
    activate(wide_in, rows * width, activation);
  }
  map_rows(outer, wide_in, rows, out, threads);
}

}  // namespace

// maps: weight and bias of query, key, value and output, or of inner, gate and outer. sizes: see `decoding.py`.
#define DECODING(T)                                                                                                  \
  void attend_##T(const T *const *views, const T *const *maps, const Index *sizes, const Wide<T> *frequencies,       \
                  T *keys, T *values, T *out, int threads) {                                                         \
    const Index rows = sizes[0], d = sizes[1], heads = sizes[2], shared = sizes[3], width = sizes[4];                \
    const Map<T> query = {maps[0], maps[1], d, heads * width}, key = {maps[2], maps[3], d, shared * width};          \
    const Map<T> value = {maps[4], maps[5], d, shared * width}, output = {maps[6], maps[7], heads * width, d};       \
    const Attention<T> layer = {query, key, value, output, {heads, shared, width}, frequencies, sizes[7]};           \
    attend<T>(views, rows, layer, {keys, values, sizes[5], sizes[6]}, out, threads);                                 \
  }                                                                                                                  \
  void feed_##T(const T *x, const T *const *maps, const Index *sizes, int activation, T *out, int threads) {         \
    const Index rows = sizes[0], d = sizes[1], width = sizes[2];                                                     \
    const Map<T> inner = {maps[0], maps[1], d, width}, gate = {maps[2], maps[3], d, width};                          \
    feed<T>(x, rows, inner, gate, {maps[4], maps[5], width, d}, activation, out, threads);                           \
  }

extern "C" {
DECODING(float)
DECODING(double)
DECODING(bfloat16)
}
