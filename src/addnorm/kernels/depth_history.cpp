// Attention over depth along a whole stack: one call a read, forward; one call a read, backward. See depth_history.py.
#include "native.h"

// 64 bytes of sums; the compiler splits them where registers are shorter.
template <class W> struct LanesOf;
template <> struct LanesOf<float> {
  typedef float type __attribute__((vector_size(64)));
};
template <> struct LanesOf<double> {
  typedef double type __attribute__((vector_size(64)));
};
template <class T> using Lanes = typename LanesOf<Wide<T>>::type;
template <class T> constexpr Index LANES = 64 / sizeof(Wide<T>);
// As many of them as hide the latency of a sum.
constexpr Index DEEP = 4;

template <class T> static inline Lanes<T> load(const T *from) {
  Lanes<T> result;
  std::memcpy(&result, from, 64);
  return result;
}
static inline Lanes<float> load(const bfloat16 *from) {
  typedef uint16_t Halves __attribute__((vector_size(32)));
  typedef uint32_t Words __attribute__((vector_size(64)));
  Halves halves;
  std::memcpy(&halves, from, 32);
  Words words = __builtin_convertvector(halves, Words) << 16;
  Lanes<float> result;
  std::memcpy(&result, &words, 64);
  return result;
}
static inline void keep(float *to, Lanes<float> x) { std::memcpy(to, &x, 64); }
static inline void keep(double *to, Lanes<double> x) { std::memcpy(to, &x, 64); }
static inline void keep(bfloat16 *to, Lanes<float> x) {
  for (Index l = 0; l < 16; l++) store(to[l], x[l]);
}

template <class W, Index L> static inline W sum(const W *x) {
  W half[L / 2];
  for (Index l = 0; l < L / 2; l++) half[l] = x[l] + x[l + L / 2];
  if constexpr (L == 2) return half[0];
  else return sum<W, L / 2>(half);
}

template <class T, class U> static inline Wide<T> dot(const T *x, const U *y, Index d) {
  Lanes<T> sums[DEEP] = {};
  Index f = 0;
  for (; f + DEEP * LANES<T> <= d; f += DEEP * LANES<T>)
    for (Index u = 0; u < DEEP; u++) sums[u] += load(x + f + u * LANES<T>) * load(y + f + u * LANES<T>);
  for (; f + LANES<T> <= d; f += LANES<T>) sums[0] += load(x + f) * load(y + f);
  Wide<T> lanes[LANES<T>];
  keep(lanes, (sums[0] + sums[1]) + (sums[2] + sums[3]));
  Wide<T> total = sum<Wide<T>, LANES<T>>(lanes);
  for (; f < d; f++) total += wide(x[f]) * wide(y[f]);
  return total;
}

enum Kind : Index { NONE = 0, LAYER = 1, RMS = 2 };

template <class T> struct Read {
  const T *const *sources;      // [n] of [tokens, d]; the last `born` are new
  Wide<T> *const *inverse;      // [n] of [tokens]: 1 / rms of each source; written for the new ones
  const T *before, *update;     // if not null, the last source is their sum, and is written
  const Wide<T> *query, *gain, *bias;
  T *mixture, *result;          // [tokens, d]; result is not written without a norm
  Wide<T> *weights, *scores;    // [tokens, n]
  Wide<T> *statistics;          // [tokens, 2]: mean counted from the first number, 1 / deviation
  Index n, born, tokens, d, threads, kind;
  double eps, norm_eps;
};

template <class T> static void grow(const Read<T> &r, Index t) {
  T *to = const_cast<T *>(r.sources[r.n - 1]) + t * r.d;
  const T *before = r.before + t * r.d, *update = r.update + t * r.d;
  for (Index f = 0; f < r.d; f++) store(to[f], wide(before[f]) + wide(update[f]));
}

template <class T> static void weigh(const Read<T> &r, Index t) {
  using W = Wide<T>;
  W *weights = r.weights + t * r.n, *scores = r.scores + t * r.n, largest = -INFINITY, total = 0;
  for (Index j = 0; j < r.n; j++) {
    const T *value = r.sources[j] + t * r.d;
    if (j >= r.n - r.born) r.inverse[j][t] = 1 / std::sqrt(dot(value, value, r.d) / r.d + W(r.eps));
    scores[j] = dot(value, r.query, r.d) * r.inverse[j][t];
    largest = scores[j] > largest ? scores[j] : largest;
  }
  for (Index j = 0; j < r.n; j++) total += weights[j] = std::exp(scores[j] - largest);
  for (Index j = 0; j < r.n; j++) weights[j] /= total;
}

template <class T, Index U> static inline void mix(const Read<T> &r, Index t, Index f) {
  const Wide<T> *weights = r.weights + t * r.n;
  Lanes<T> sums[U] = {};
  for (Index j = 0; j < r.n; j++)
    for (Index u = 0; u < U; u++) sums[u] += weights[j] * load(r.sources[j] + t * r.d + f + u * LANES<T>);
  for (Index u = 0; u < U; u++) keep(r.mixture + t * r.d + f + u * LANES<T>, sums[u]);
}

template <class T> static void mix(const Read<T> &r, Index t) {
  Index f = 0;
  for (; f + DEEP * LANES<T> <= r.d; f += DEEP * LANES<T>) mix<T, DEEP>(r, t, f);
  for (; f + LANES<T> <= r.d; f += LANES<T>) mix<T, 1>(r, t, f);
  for (; f < r.d; f++) {
    Wide<T> total = 0;
    for (Index j = 0; j < r.n; j++) total += r.weights[t * r.n + j] * wide(r.sources[j][t * r.d + f]);
    store(r.mixture[t * r.d + f], total);
  }
}

// LayerNorm counts from the row's first number, so that a row far from zero loses nothing.
template <class T> static void norm(const Read<T> &r, Index t) {
  using W = Wide<T>;
  const T *x = r.mixture + t * r.d;
  T *to = r.result + t * r.d;
  W first = r.kind == LAYER ? wide(x[0]) : 0, mean = 0, square = 0;
  if (r.kind == LAYER) {
#pragma omp simd reduction(+ : mean)
    for (Index f = 0; f < r.d; f++) mean += wide(x[f]) - first;
    mean /= r.d;
  }
#pragma omp simd reduction(+ : square)
  for (Index f = 0; f < r.d; f++) square += (wide(x[f]) - first - mean) * (wide(x[f]) - first - mean);
  W scale = 1 / std::sqrt(square / r.d + W(r.norm_eps));
  r.statistics[2 * t] = mean, r.statistics[2 * t + 1] = scale;
  if (r.bias)
    for (Index f = 0; f < r.d; f++) store(to[f], (wide(x[f]) - first - mean) * scale * r.gain[f] + r.bias[f]);
  else
    for (Index f = 0; f < r.d; f++) store(to[f], (wide(x[f]) - first - mean) * scale * r.gain[f]);
}

template <class T> static void read(const Read<T> &r) {
#pragma omp parallel for num_threads(r.threads) schedule(static)
  for (Index t = 0; t < r.tokens; t++) {
    if (r.before) grow(r, t);
    weigh(r, t);
    mix(r, t);
    if (r.kind != NONE) norm(r, t);
  }
}

template <class T> struct Gather {
  const T *const *grads;           // [reads] of [tokens, d]: gradients of the mixtures that read the value
  const Wide<T> *const *levels;    // [reads] of [tokens]: those gradients . mixtures
  const Wide<T> *const *weights;   // [reads] of [tokens, widths[k]]
  const Wide<T> *const *scores;    // the same
  const Wide<T> *const *queries;   // [reads] of [d]
  Wide<T> *const *grad_queries;    // [reads] of [d], added to; each thread's `stride` numbers after the one's before
  const Index *widths;             // [reads]
  const T *grad, *mixture;         // of this read's result, and its mixture; grad is null if none came
  const Wide<T> *gain, *statistics;
  T *grad_mixture;                 // written, except without a norm
  Wide<T> *level;                  // [tokens], written
  Wide<T> *grad_gain, *grad_bias;  // [threads, d], added to; bias may be null
  const T *value;                  // [tokens, d]; null if nothing is to be gathered
  const Wide<T> *inverse;          // [tokens]
  const T *carried;                // [tokens, d] or null: gradient from the sum that the value went into
  T *grad_value;                   // written
  Index place, reads, tokens, d, threads, stride, kind;
};

template <class T> static void through_norm(const Gather<T> &g, Index t, Index thread, Wide<T> *normed) {
  using W = Wide<T>;
  const T *grad = g.grad + t * g.d, *x = g.mixture + t * g.d;
  if (g.kind == NONE) {
    g.level[t] = dot(grad, x, g.d);
    return;
  }
  T *to = g.grad_mixture + t * g.d;
  W first = g.kind == LAYER ? wide(x[0]) : 0, mean = g.statistics[2 * t], scale = g.statistics[2 * t + 1], along = 0, total = 0;
  W *grad_gain = g.grad_gain + thread * g.d, *grad_bias = g.grad_bias ? g.grad_bias + thread * g.d : nullptr;
#pragma omp simd reduction(+ : along, total)
  for (Index f = 0; f < g.d; f++) {
    normed[f] = (wide(x[f]) - first - mean) * scale;
    along += wide(grad[f]) * g.gain[f] * normed[f];
    total += wide(grad[f]) * g.gain[f];
    grad_gain[f] += wide(grad[f]) * normed[f];
  }
  if (grad_bias)
    for (Index f = 0; f < g.d; f++) grad_bias[f] += wide(grad[f]);
  along /= g.d, total = g.kind == LAYER ? total / g.d : 0;
  for (Index f = 0; f < g.d; f++) store(to[f], (wide(grad[f]) * g.gain[f] - total - normed[f] * along) * scale);
  g.level[t] = dot(to, x, g.d);
}

// What the gradients of one token's value are made of; one of each for every read.
template <class T> struct Shares {
  std::vector<Wide<T>> weights, keys, own;
};

template <class T> static void share(const Gather<T> &g, Index t, Shares<T> &s) {
  const T *value = g.value + t * g.d;
  for (Index k = 0; k < g.reads; k++) {
    Index at = t * g.widths[k] + g.place;
    s.weights[k] = g.weights[k][at];
    s.keys[k] = s.weights[k] * (dot(g.grads[k] + t * g.d, value, g.d) - g.levels[k][t]) * g.inverse[t];
    s.own[k] = -s.keys[k] * g.scores[k][at] * g.inverse[t] / g.d;
  }
}

// Each read's part is rounded before it is added, as if it had come by itself: the sum is the same to the bit whether
// it is gathered here or by autograd from reads that were gathered alone.
template <class T, Index U> static inline void gather(const Gather<T> &g, Index at, Index f, const Shares<T> &s) {
  Lanes<T> sums[U] = {}, value[U];
  for (Index u = 0; u < U; u++) {
    value[u] = load(g.value + at + f + u * LANES<T>);
    if (g.carried) sums[u] = load(g.carried + at + f + u * LANES<T>);
  }
  for (Index k = 0; k < g.reads; k++)
    for (Index u = 0; u < U; u++) {
      Lanes<T> part = s.weights[k] * load(g.grads[k] + at + f + u * LANES<T>) + s.own[k] * value[u];
      part += s.keys[k] * load(g.queries[k] + f + u * LANES<T>);
      sums[u] += part;
    }
  for (Index u = 0; u < U; u++) keep(g.grad_value + at + f + u * LANES<T>, sums[u]);
}

template <class T> static void gather(const Gather<T> &g, Index t, const Shares<T> &s) {
  Index f = 0, at = t * g.d;
  for (; f + DEEP * LANES<T> <= g.d; f += DEEP * LANES<T>) gather<T, DEEP>(g, at, f, s);
  for (; f + LANES<T> <= g.d; f += LANES<T>) gather<T, 1>(g, at, f, s);
  for (; f < g.d; f++) {
    Wide<T> total = g.carried ? wide(g.carried[at + f]) : 0, value = wide(g.value[at + f]);
    for (Index k = 0; k < g.reads; k++) {
      Wide<T> part = s.weights[k] * wide(g.grads[k][at + f]) + s.own[k] * value;
      part += s.keys[k] * g.queries[k][f];
      total += part;
    }
    store(g.grad_value[at + f], total);
  }
}

template <class T> static void of_queries(const Gather<T> &g, Index t, Index thread, const Shares<T> &s) {
  const T *value = g.value + t * g.d;
  for (Index k = 0; k < g.reads; k++) {
    Wide<T> *to = g.grad_queries[k] + thread * g.stride, key = s.keys[k];
    for (Index f = 0; f < g.d; f++) to[f] += key * wide(value[f]);
  }
}

template <class T> static void gather(const Gather<T> &g) {
#pragma omp parallel for num_threads(g.threads) schedule(static, 1)
  for (Index thread = 0; thread < g.threads; thread++) {
    std::vector<Wide<T>> normed(g.d);
    std::vector<Wide<T>> shares(g.reads);
    Shares<T> s{shares, shares, shares};
    for (Index t = g.tokens * thread / g.threads; t < g.tokens * (thread + 1) / g.threads; t++) {
      if (g.grad) through_norm(g, t, thread, normed.data());
      if (!g.value) continue;
      share(g, t, s);
      gather(g, t, s);
      of_queries(g, t, thread, s);
    }
  }
}

extern "C" {
void read_float(const Read<float> *r) { read(*r); }
void read_double(const Read<double> *r) { read(*r); }
void read_bfloat16(const Read<bfloat16> *r) { read(*r); }
void gather_float(const Gather<float> *g) { gather(*g); }
void gather_double(const Gather<double> *g) { gather(*g); }
void gather_bfloat16(const Gather<bfloat16> *g) { gather(*g); }
}
