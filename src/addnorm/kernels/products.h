// Products of small matrices: what they multiply lies in the first caches, so one tile of registers is all the blocking.
// Every number of a result is a sum over the inner dimension from first to last, in pieces of DEEP: it does not depend
// on how many rows there are, nor on the number of threads.
#pragma once

#include "mhc_vector.h"

// Rows of a tile: with two vectors of columns their sums fill the registers, but for three.
#if defined(__AVX512F__)
constexpr int TALL = 12;
#else
constexpr int TALL = 6;
#endif
constexpr Index DEEP = 64;   // of the inner dimension at a time: a panel of them fits into the first cache

// A matrix by strides: of its numbers, or of its transpose's.
template <class W> struct Matrix {
  const W *at;
  Index down, right;
  const W *row(Index i) const { return at + i * down; }
  Matrix from(Index i) const { return {at + i * down, down, right}; }
};
template <class W> static inline Matrix<W> plain(const W *at, Index stride) { return {at, stride, 1}; }
template <class W> static inline Matrix<W> transposed(const W *at, Index stride) { return {at, 1, stride}; }

template <class W> static inline int vectors_of(Index columns) { return columns <= LANES<W> ? 1 : 2; }
template <class W> static inline Index panel_of(Index columns) { return vectors_of<W>(columns) * LANES<W>; }
// Numbers that a packed matrix takes.
template <class W> static inline Index packed(Index rows, Index columns) {
  return rows * padded(columns, panel_of<W>(columns));
}

// A matrix in panels of one or two vectors of columns, each row after row; the last is filled up with zeros.
template <class W> struct Packed {
  const W *at;
  Index rows, columns;
};

template <class W> static Packed<W> pack(Matrix<W> from, Index rows, Index columns, W *to) {
  constexpr Index L = LANES<W>;
  const Index panel = panel_of<W>(columns);
  const Packed<W> made{to, rows, columns};
  for (Index j = 0; j < columns; j += panel, to += rows * panel) {
    const Index some = std::min(panel, columns - j);
    const W *first = from.at + j * from.right;
    if (some < panel) std::fill_n(to, rows * panel, W(0));
    if (from.right == 1 && some == panel) {
      for (Index p = 0; p < rows; p++)
        for (Index v = 0; v < panel; v += L) put(to + p * panel + v, load(first + p * from.down + v));
    } else if (from.right == 1) {
      for (Index p = 0; p < rows; p++)
        for (Index i = 0; i < some; i++) to[p * panel + i] = first[p * from.down + i];
    } else {
      for (Index i = 0; i < some; i++)
        for (Index p = 0; p < rows; p++) to[p * panel + i] = first[p * from.down + i * from.right];
    }
  }
  return made;
}

template <class W> struct Result {
  W *at;
  Index stride;
  bool add;       // to what is there
  const W *bias;  // of each column; null: none
};

template <class W, int ROWS_OF_TILE, int VECTORS>
static inline void tile(Matrix<W> a, const W *b, Index inner, Result<W> c, Index some) {
  constexpr Index L = LANES<W>, panel = VECTORS * L;
  Vec<W> sums[ROWS_OF_TILE][VECTORS] = {};
  for (Index p = 0; p < inner; p++) {
    Vec<W> of[VECTORS];
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) of[v] = load(b + p * panel + v * L);
#pragma GCC unroll 24
    for (int r = 0; r < ROWS_OF_TILE; r++) {
      const W x = a.at[r * a.down + p * a.right];
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; v++) sums[r][v] += of[v] * x;
    }
  }
#pragma GCC unroll 24
  for (int r = 0; r < ROWS_OF_TILE; r++) {
    W *to = c.at + r * c.stride;
    if (some == panel) {
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; v++) {
        Vec<W> sum = sums[r][v];
        if (c.bias) sum += load(c.bias + v * L);
        if (c.add) sum += load(to + v * L);
        put(to + v * L, sum);
      }
    } else {
      W row[panel];
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; v++) put(row + v * L, sums[r][v]);
      for (Index i = 0; i < some; i++) {
        W sum = row[i];
        if (c.bias) sum += c.bias[i];
        to[i] = c.add ? sum + to[i] : sum;
      }
    }
  }
}

template <class W, int VECTORS>
static void multiply_panels(Matrix<W> a, Packed<W> b, Index rows, Index columns, Index inner, Result<W> c) {
  constexpr Index panel = VECTORS * LANES<W>;
  const W *from = b.at;
  for (Index j = 0; j < columns; j += panel, from += b.rows * panel) {
    const Index some = std::min(panel, columns - j);
    const auto at = [&](Index i) {
      return Result<W>{c.at + i * c.stride + j, c.stride, c.add, c.bias ? c.bias + j : nullptr};
    };
    // Of one vector of columns twice as many rows: a sum waits for its last addition.
    constexpr int most = VECTORS == 1 ? 2 * TALL : TALL;
    Index i = 0;
    for (; i + most <= rows; i += most) tile<W, most, VECTORS>(a.from(i), from, inner, at(i), some);
    if (i == rows) continue;
    // The last rows by the same instructions, so that a row's bits do not depend on how many there are.
    const Index left = rows - i;
    W *copy = kept<W>(most * (inner + panel), 2), *result = copy + most * inner;
    for (Index r = 0; r < most; r++)
      for (Index p = 0; p < inner; p++) copy[r * inner + p] = r < left ? a.row(i + r)[p * a.right] : W(0);
    tile<W, most, VECTORS>(plain<W>(copy, inner), from, inner, {result, panel, false, nullptr}, panel);
    for (Index r = 0; r < left; r++)
      for (Index k = 0; k < some; k++) {
        const W sum = result[r * panel + k] + (c.bias ? c.bias[j + k] : W(0));
        W *to = c.at + (i + r) * c.stride + j + k;
        *to = c.add ? sum + *to : sum;
      }
  }
}

// C = A B: the first `columns` of them, over the first `inner` rows of B.
template <class W>
static void multiply(Matrix<W> a, Packed<W> b, Index rows, Index columns, Index inner, Result<W> c) {
  vectors_of<W>(b.columns) == 1 ? multiply_panels<W, 1>(a, b, rows, columns, inner, c)
                                : multiply_panels<W, 2>(a, b, rows, columns, inner, c);
}

// The share of `count` that one of `threads` takes, in whole tiles.
struct Share {
  Index first, last;
  Share(Index count, int thread, int threads) {
    const Index each = padded((count + threads - 1) / threads, TALL);
    first = std::min(count, thread * each), last = std::min(count, first + each);
  }
};

// What a weight and a bias learn: the sums over tokens of g_t x_t^T, and of g_t; rows `share` of the outputs.
template <class W>
static void learn(const W *g, Index outputs, const W *x, Index inputs, Index tokens, Share share, W *of_weight, W *of_bias,
                  W *room) {
  const Index rows = share.last - share.first;
  if (rows <= 0) return;
  for (Index t = 0; t < tokens; t += DEEP) {
    const Index some = std::min(DEEP, tokens - t);
    const Packed<W> panels = pack(plain(x + t * inputs, inputs), some, inputs, room);
    multiply(transposed(g + t * outputs + share.first, outputs), panels, rows, inputs, some,
             {of_weight + share.first * inputs, inputs, t > 0, nullptr});
  }
  if (!of_bias) return;
  std::fill(of_bias + share.first, of_bias + share.last, W(0));
  for (Index t = 0; t < tokens; t++)
#pragma omp simd
    for (Index i = share.first; i < share.last; i++) of_bias[i] += g[t * outputs + i];
}

// What Python hands over, in the precision of the call.
template <class W> static const W *in(const void *at) { return static_cast<const W *>(at); }
template <class W> static W *out(void *at) { return static_cast<W *>(at); }

// Room that a call takes piece by piece, each at a line of the cache.
template <class W> struct Room {
  W *next;
  W *take(Index numbers) {
    W *found = next;
    next += padded(numbers, 64 / Index(sizeof(W)));
    return found;
  }
  static Index of(Index numbers) { return padded(numbers, 64 / Index(sizeof(W))); }
};
