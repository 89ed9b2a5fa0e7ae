// The backward of one site of mHC: of its read and coefficients, and of the write of the site before.
#pragma once

#include "mhc_forward.h"

// Filled by Python, in this order; `Site` says the rest: there `streams` is the state that was read, `update` and
// `post` are those of the write before it.
struct Gradients {
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

// Back through the norm to the gradient of H_pre X; the normalised row is made again. Adds to gain and shift.
template <class W, int N>
static void unread_token(const Site &site, const Shape<W> &s, const W *x, const W *pre, const W *statistics,
                         const W *grad, Sums<W> &sums, W *out) {
  if (site.norm == NO_NORM) return void(std::copy(grad, grad + s.width, out));
  const Index n = N ? N : s.n;
  const W *gain = static_cast<const W *>(site.gain), mean = site.norm == LAYER_NORM ? statistics[0] : W(0);
  const W inverse = statistics[BLOCK];
  Vec<W> plain = {}, along = {};
  for (Index k = 0; k < s.width; k += LANES<W>) {
    Vec<W> value = load(x + k) * pre[0];
    for (Index j = 1; j < n; j++) value += load(x + j * s.width + k) * pre[j];
    const Vec<W> normed = (value - mean) * inverse, g = load(grad + k), scaled = g * load(gain + k);
    put(out + k, normed);
    put(sums.gain + k, load(sums.gain + k) + g * normed);
    put(sums.shift + k, load(sums.shift + k) + g);
    plain += scaled;
    along += scaled * normed;
  }
  const W centre = site.norm == LAYER_NORM ? sum<W>(plain) / W(s.d) : W(0), slope = sum<W>(along) / W(s.d);
  for (Index k = 0; k < s.width; k += LANES<W>)
    put(out + k, (load(grad + k) * load(gain + k) - centre - load(out + k) * slope) * inverse);
}

// The products that the gradients of H_res and H_pre are the sums of: row i * n + j for dX'_i X_j, then dread X_j.
template <class W, int N>
static void dots_of_token(const Shape<W> &s, const W *x, const W *next, const W *read, Vec<W> *products) {
  const Index n = N ? N : s.n;
  constexpr int MOST = N ? N : 1;
  // Streams the compiler does not count are taken one by one.
  for (Index first = 0; first < n; first += MOST)
    for (Index other = 0; other < n; other += MOST) {
      Vec<W> mixed[MOST][MOST] = {}, of_read[MOST] = {};
      for (Index k = 0; k < s.width; k += LANES<W>) {
        Vec<W> value[MOST];
        for (int j = 0; j < MOST; j++) {
          value[j] = load(x + (other + j) * s.width + k);
          if (first == 0) of_read[j] += value[j] * load(read + k);
        }
        for (int i = 0; i < MOST; i++) {
          const Vec<W> grad = load(next + (first + i) * s.width + k);
          for (int j = 0; j < MOST; j++) mixed[i][j] += grad * value[j];
        }
      }
      for (int i = 0; i < MOST; i++)
        for (int j = 0; j < MOST; j++) products[((first + i) * n + other + j) * BLOCK] = mixed[i][j];
      if (first == 0)
        for (int j = 0; j < MOST; j++) products[(n * n + other + j) * BLOCK] = of_read[j];
    }
}

// H_res^T dX' + H_pre^T dread; `to` may be where `next` is.
template <class W, int N>
static void unmix_token(const Shape<W> &s, const W *next, const W *read, const W *mixing, const W *pre, W *to) {
  const Index n = N ? N : s.n;
  Vec<W> kept[N ? N : 64];
  for (Index k = 0; k < s.width; k += LANES<W>) {
    const Vec<W> of_read = load(read + k);
    for (Index i = 0; i < n; i++) kept[i] = load(next + i * s.width + k);
    for (Index j = 0; j < n; j++) {
      Vec<W> total = of_read * pre[j];
      for (Index i = 0; i < n; i++) total += kept[i] * mixing[i * n + j];
      put(to + j * s.width + k, total);
    }
  }
}

// dX += phi^T g - along X, of one stream's part of a chunk, for WIDE_TILE tokens.
template <class W>
static void unproject_tile(const Shape<W> &s, const W *phi, const W *g, const W *along, const W *const *x, W *const *to) {
  constexpr int T = WIDE_TILE;
  Vec<W> total[T][PAIR];
#pragma GCC unroll 8
  for (int t = 0; t < T; t++)
#pragma GCC unroll 2
    for (int v = 0; v < PAIR; v++)
      total[t][v] = load(to[t] + v * LANES<W>) - load(x[t] + v * LANES<W>) * along[t];
  for (Index r = 0; r < s.rows; r++) {
    Vec<W> weight[PAIR];
    for (int v = 0; v < PAIR; v++) weight[v] = load(phi + r * s.piece() + v * LANES<W>);
#pragma GCC unroll 8
    for (int t = 0; t < T; t++)
#pragma GCC unroll 2
      for (int v = 0; v < PAIR; v++) total[t][v] += weight[v] * g[r * BLOCK + t];
  }
#pragma GCC unroll 8
  for (int t = 0; t < T; t++)
#pragma GCC unroll 2
    for (int v = 0; v < PAIR; v++) put(to[t] + v * LANES<W>, total[t][v]);
}

// dphi += g X^T, of one stream's part of a chunk, for TALL_TILE rows.
template <class W>
static void phi_tile(const Shape<W> &s, const W *g, const W *x, Index count, W *phi) {
  constexpr int R = TALL_TILE;
  Vec<W> total[R][PAIR];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int v = 0; v < PAIR; v++) total[r][v] = load(phi + r * s.piece() + v * LANES<W>);
  for (Index t = 0; t < count; t++) {
    Vec<W> value[PAIR];
    for (int v = 0; v < PAIR; v++) value[v] = load(x + t * s.state() + v * LANES<W>);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int v = 0; v < PAIR; v++) total[r][v] += value[v] * g[r * BLOCK + t];
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int v = 0; v < PAIR; v++) put(phi + r * s.piece() + v * LANES<W>, total[r][v]);
}

// Both, chunk by chunk, while a chunk of everything is in the nearest cache.
template <class W>
static void unproject(const Shape<W> &s, const W *phi, const W *g, const W *along, const W *x, Index count, W *to,
                      W *grad_phi) {
  for (Index c = 0; c < s.chunks; c++)
    for (Index j = 0; j < s.n; j++) {
      const Index at = j * s.width + c * CHUNK<W>, piece = c * s.tall * s.piece() + j * CHUNK<W>;
      for (Index t = 0; t < count; t += WIDE_TILE) {
        const W *from[WIDE_TILE];
        W *into[WIDE_TILE];
        for (int i = 0; i < WIDE_TILE; i++) {
          // A token past the last repeats it, and stores the same numbers again.
          const Index row = std::min(t + i, count - 1) * s.state() + at;
          from[i] = x + row;
          into[i] = to + row;
        }
        unproject_tile(s, phi + piece, g + t, along + t, from, into);
      }
      for (Index r = 0; r < s.tall; r += TALL_TILE)
        phi_tile(s, g + r * BLOCK, x + at, count, grad_phi + piece + r * s.piece());
    }
}

// Of the write X' = H_res X + H_post y: dy, and the products that the gradient of H_post is the sum of.
template <class W, int N>
static void unwrite_token(const Shape<W> &s, const W *grad, const W *y, const W *post, W *of_update, Vec<W> *products) {
  const Index n = N ? N : s.n;
  Vec<W> dots[N ? N : 64] = {};
  for (Index k = 0; k < s.width; k += LANES<W>) {
    const Vec<W> update = load(y + k);
    Vec<W> total = {};
    for (Index i = 0; i < n; i++) {
      const Vec<W> g = load(grad + i * s.width + k);
      total += g * post[i];
      dots[i] += g * update;
    }
    put(of_update + k, total);
  }
  for (Index i = 0; i < n; i++) products[i * BLOCK] = dots[i];
}
