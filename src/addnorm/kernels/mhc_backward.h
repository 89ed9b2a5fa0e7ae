// The backward of one site of mHC: of its read and coefficients, and of the write of the site before.
#pragma once

#include "mhc_forward.h"

// Filled by Python, in this order; `Site` says the rest.
struct Gradients {
  // Of the write before this site, the last of the steps: the sublayer's output and H_post.
  const void *last_update, *last_post;
  // What comes: of the state that the write of this site made, of the read, of H_post.
  const void *next_state, *read, *next_post;
  // What goes: of the state that was read (it may lie where next_state lies); of the update and H_post before it.
  void *state, *update, *post;
  // Of the parameters, in working precision.
  void *phi, *alpha, *bias, *gain, *shift;
};

// What a thread adds up over its tokens.
template <class W> struct Sums {
  W *phi, *gain, *shift;
  Vec<W> *scale, *bias;

  static Index wanted(const Shape<W> &s) { return s.phi() + 2 * s.width + 2 * s.rows * LANES<W>; }
  Sums(const Shape<W> &s, W *at)
      : phi(at), gain(at + s.phi()), shift(gain + s.width), scale(reinterpret_cast<Vec<W> *>(shift + s.width)),
        bias(scale + s.rows) {
    std::fill(at, at + wanted(s), W(0));
  }
};

// What the norm of one token says of the gradient of its input H_pre X: (g gain - centre - normed slope) inverse.
template <class W> struct Unnorm {
  W centre = 0, slope = 0, inverse = 1;
};

// The streams of one token taken in, and its read normalised again; adds to the gradients of gain and shift.
template <class T, class U, int N>
static Unnorm<Wide<T>> unread_token(const Site &site, const Steps<T, U, N> &steps, const T *x, const Wide<T> *pre,
                                    const Wide<T> *statistics, const T *grad, Sums<Wide<T>> &sums, Wide<T> *to,
                                    Wide<T> *normed) {
  using W = Wide<T>;
  const Shape<W> &s = steps.s;
  const Index n = N ? N : s.n;
  const W *gain = static_cast<const W *>(site.gain), mean = site.norm == LAYER_NORM ? statistics[0] : W(0);
  const W inverse = site.norm == NO_NORM ? W(1) : statistics[BLOCK];
  Vec<W> plain = {}, along = {};
  W first = 0;
  for (Index k = 0; k < s.width; k += LANES<W>) {
    W *place = to + s.at(k);
    Vec<W> value = {}, state[N ? N : MOST_STREAMS];
    steps.run(x, k, state);
    for (Index j = 0; j < n; j++) {
      put(place + j * CHUNK<W>, state[j]);
      value += state[j] * pre[j];
    }
    if (site.norm == NO_NORM) continue;
    const Vec<W> g = load(grad + k), scaled = g * load(gain + k);
    if (site.norm == LAYER_NORM && k == 0) first = value[0];
    value = (value - first - mean) * inverse;
    put(normed + k, value);
    put(sums.gain + k, load(sums.gain + k) + g * value);
    put(sums.shift + k, load(sums.shift + k) + g);
    plain += scaled;
    along += scaled * value;
  }
  if (site.norm == NO_NORM) return {};
  return {site.norm == LAYER_NORM ? sum<W>(plain) / W(s.d) : W(0), sum<W>(along) / W(s.d), inverse};
}

// dX = H_res^T dX' + H_pre^T dread of one token, and the products that the gradients of H_res and H_pre are sums of:
// row i * n + j for dX'_i X_j, then dread X_j. Streams that the compiler does not count are taken one by one.
template <class T, int N> struct Unmix {
  using W = Wide<T>;
  static constexpr int MANY = N ? N : MOST_STREAMS;
  const Site &site;
  const Shape<W> &s;
  const W *mixing, *pre;
  Unnorm<W> norm;

  Vec<W> of_read(const T *grad, const W *normed, Index k) const {
    const Vec<W> g = load(grad + k);
    if (site.norm == NO_NORM) return g;
    const W *gain = static_cast<const W *>(site.gain);
    return (g * load(gain + k) - norm.centre - load(normed + k) * norm.slope) * norm.inverse;
  }

  void run(const T *next, const T *grad, const W *normed, const W *x, W *to, Vec<W> *products) const {
    const Index n = N ? N : s.n;
    Vec<W> mixed[N ? N * N : MANY * MANY] = {}, read[MANY] = {};
    for (Index k = 0; k < s.width; k += LANES<W>) {
      const Index at = s.at(k);
      const Vec<W> back = of_read(grad, normed, k);
      Vec<W> own[MANY], after[MANY];
      for (Index j = 0; j < n; j++) own[j] = load(x + at + j * CHUNK<W>);
      for (Index i = 0; i < n; i++) after[i] = load(next + i * s.width + k);
      for (Index i = 0; i < n; i++)
        for (Index j = 0; j < n; j++) mixed[i * n + j] += after[i] * own[j];
      for (Index j = 0; j < n; j++) read[j] += back * own[j];
      for (Index j = 0; j < n; j++) {
        Vec<W> total = back * pre[j];
        for (Index i = 0; i < n; i++) total += after[i] * mixing[i * n + j];
        put(to + at + j * CHUNK<W>, total);
      }
    }
    for (Index q = 0; q < n * n; q++) products[q * BLOCK] = mixed[q];
    for (Index j = 0; j < n; j++) products[(n * n + j) * BLOCK] = read[j];
  }
};

// dX += phi^T g - along X, of one stream's part of a chunk, for WIDE_TILE tokens.
template <class W>
static void unproject_tile(const Shape<W> &s, const W *phi, const W *g, const W *along, const W *x, W *to) {
  constexpr int T = WIDE_TILE;
  const Index row = s.piece();
  Vec<W> total[T][PAIR];
#pragma GCC unroll 8
  for (int t = 0; t < T; t++)
#pragma GCC unroll 2
    for (int v = 0; v < PAIR; v++)
      total[t][v] = load(to + t * row + v * LANES<W>) - load(x + t * row + v * LANES<W>) * along[t];
  for (Index r = 0; r < s.rows; r++) {
    Vec<W> weight[PAIR];
    for (int v = 0; v < PAIR; v++) weight[v] = load(phi + r * row + v * LANES<W>);
#pragma GCC unroll 8
    for (int t = 0; t < T; t++)
#pragma GCC unroll 2
      for (int v = 0; v < PAIR; v++) total[t][v] += weight[v] * g[r * BLOCK + t];
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; t++)
#pragma GCC unroll 2
    for (int v = 0; v < PAIR; v++) put(to + t * row + v * LANES<W>, total[t][v]);
}

// dphi += g X^T, of one stream's part of a chunk, for TALL_TILE rows.
template <class W>
static void phi_tile(const Shape<W> &s, const W *g, const W *x, Index count, W *phi) {
  constexpr int R = TALL_TILE;
  const Index row = s.piece();
  Vec<W> total[R][PAIR];
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int v = 0; v < PAIR; v++) total[r][v] = load(phi + r * row + v * LANES<W>);
  for (Index t = 0; t < count; t++) {
    Vec<W> value[PAIR];
    for (int v = 0; v < PAIR; v++) value[v] = load(x + t * row + v * LANES<W>);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int v = 0; v < PAIR; v++) total[r][v] += value[v] * g[r * BLOCK + t];
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int v = 0; v < PAIR; v++) put(phi + r * row + v * LANES<W>, total[r][v]);
}

// Of the write X' = H_res X + H_post y: dX' stored, dy, and the products that the gradient of H_post is the sum of.
template <class T, class U, int N>
static void unwrite_token(const Shape<Wide<T>> &s, const Wide<T> *grad, const U *y, const Wide<T> *post, T *state,
                          U *of_update, Vec<Wide<T>> *products) {
  using W = Wide<T>;
  const Index n = N ? N : s.n;
  Vec<W> dots[N ? N : MOST_STREAMS] = {};
  for (Index k = 0; k < s.width; k += LANES<W>) {
    const W *place = grad + s.at(k);
    Vec<W> total = {};
    const Vec<W> update = y ? load(y + k) : total;
    for (Index i = 0; i < n; i++) {
      Vec<W> g = load(place + i * CHUNK<W>);
      if (state) put(state + i * s.width + k, g = rounded<T>(g));  // go on from what is stored
      if (!y) continue;
      total += g * post[i];
      dots[i] += g * update;
    }
    if (y) put(of_update + k, total);
  }
  for (Index i = 0; y && i < n; i++) products[i * BLOCK] = dots[i];
}
