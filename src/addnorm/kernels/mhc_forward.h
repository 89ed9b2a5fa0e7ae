// The forward of one site of mHC: the write of the site before, the coefficients, the read and its norm.
#pragma once

#include "mhc_sinkhorn.h"

enum Norm { NO_NORM, LAYER_NORM, RMS_NORM };

// What forward and backward are told; addresses that are not needed are null. Filled by Python, in this order.
struct Site {
  Index tokens, n, d, iterations, threads, norm;
  double eps, norm_eps;
  // Of the site before: its state, its sublayer's output, H_res and H_post.
  const void *streams, *update, *mixing, *post;
  // Of this site: parameters, in working precision.
  const void *phi, *alpha, *bias, *gain, *shift;
  // Results: the new state, the normalised read, H_res and H_post, and the numbers that backward needs.
  void *written, *read, *next_mixing, *next_post, *saved;
};

// Sizes that everything agrees on.
template <class W> struct Shape {
  Index tokens, n, d, width, rows, tall, chunks;

  explicit Shape(const Site &site)
      : tokens(site.tokens), n(site.n), d(site.d), width(padded(d, CHUNK<W>)), rows(n * n + 2 * n),
        tall(padded(rows, ROWS)), chunks(width / CHUNK<W>) {}

  Index blocks() const { return padded(tokens, BLOCK) / BLOCK; }
  Index state() const { return n * width; }           // numbers of a token's streams, padded
  Index phi() const { return tall * n * width; }      // numbers of phi, padded
  Index piece() const { return n * CHUNK<W>; }        // numbers of a chunk of a token, or of a row of phi
  Index record() const { return (rows + 3) * BLOCK; } // saved numbers of a block
  bool direct() const { return width == d; }
};

// phi chunk by chunk, so that the rows that are used together lie together; rows and features padded with zeros.
template <class W> static void pack_phi(const Shape<W> &s, const W *phi, W *into) {
  for (Index c = 0; c < s.chunks; c++)
    for (Index r = 0; r < s.tall; r++)
      for (Index j = 0; j < s.n; j++, into += CHUNK<W>)
        for (Index f = 0; f < CHUNK<W>; f++) {
          const Index k = c * CHUNK<W> + f;
          into[f] = r < s.rows && k < s.d ? phi[(r * s.n + j) * s.d + k] : W(0);
        }
}

// The rows of a block: in place if they can be used as they lie, else a widened copy.
template <class T, class W>
static const W *block_rows(const T *from, Index rows, Index d, Index width, W *scratch) {
  if constexpr (std::is_same<T, W>::value)
    if (d == width) return from;
  for (Index i = 0; i < rows; i++) widen(from + i * d, d, width, scratch + i * width);
  return scratch;
}

// X' = H_res X + H_post y of one token.
template <class W, int N>
static void write_token(const Shape<W> &s, const W *x, const W *y, const W *mixing, const W *post, W *to) {
  const Index n = N ? N : s.n;
  for (Index k = 0; k < s.width; k += LANES<W>) {
    const Vec<W> update = load(y + k);
    for (Index i = 0; i < n; i++) {
      Vec<W> total = update * post[i];
      for (Index j = 0; j < n; j++) total += load(x + j * s.width + k) * mixing[i * n + j];
      put(to + i * s.width + k, total);
    }
  }
}

template <class W> static Vec<W> square_sum(const W *x, Index count) {
  Vec<W> total[4] = {};
  Index k = 0;
  for (; k + 4 * LANES<W> <= count; k += 4 * LANES<W>)
    for (int i = 0; i < 4; i++) {
      const Vec<W> v = load(x + k + i * LANES<W>);
      total[i] += v * v;
    }
  for (; k < count; k += LANES<W>) {
    const Vec<W> v = load(x + k);
    total[0] += v * v;
  }
  return (total[0] + total[1]) + (total[2] + total[3]);
}

// Four tokens times ROWS rows of phi over one chunk; partial sums of row r and token t lie at r * BLOCK + t.
template <class W, int N, int TOKENS>
static void project_tile(const Shape<W> &s, const W *const *x, const W *phi, Vec<W> *partial) {
  const Index n = N ? N : s.n, row = n * CHUNK<W>;
  Vec<W> total[ROWS][TOKENS];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
    for (int t = 0; t < TOKENS; t++) total[r][t] = partial[r * BLOCK + t];
  for (Index j = 0; j < n; j++)
#pragma GCC unroll 2
    for (int v = 0; v < PAIR; v++) {
      Vec<W> of[TOKENS];
#pragma GCC unroll 8
      for (int t = 0; t < TOKENS; t++) of[t] = load(x[t] + j * s.width + v * LANES<W>);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; r++) {
        const Vec<W> weight = load(phi + r * row + j * CHUNK<W> + v * LANES<W>);
#pragma GCC unroll 8
        for (int t = 0; t < TOKENS; t++) total[r][t] += weight * of[t];
      }
    }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
    for (int t = 0; t < TOKENS; t++) partial[r * BLOCK + t] = total[r][t];
}

// phi X' of a block; tokens past the last repeat it.
template <class W, int N>
static void project(const Shape<W> &s, const W *x, Index count, const W *phi, Vec<W> *partial) {
  constexpr int TOKENS = WIDE_TILE / 2;
  std::fill(partial, partial + s.tall * BLOCK, Vec<W>{});
  for (Index c = 0; c < s.chunks; c++)
    for (Index t = 0; t < count; t += TOKENS) {
      const W *rows[TOKENS];
      for (int i = 0; i < TOKENS; i++) rows[i] = x + std::min(t + i, count - 1) * s.state() + c * CHUNK<W>;
      for (Index r = 0; r < s.tall; r += ROWS)
        project_tile<W, N, TOKENS>(s, rows, phi + (c * s.tall + r) * s.piece(), partial + r * BLOCK + t);
    }
}

// From the projection to the coefficients of LANES tokens, tokens last: [H_pre; H_post; H_res].
template <class W, int N>
static void coefficients(const Site &site, const W *record, Vec<W> *out, Vec<W> *sums_kept) {
  const Index n = N ? N : site.n, rows = n * n + 2 * n;
  const W *scale = static_cast<const W *>(site.alpha), *bias = static_cast<const W *>(site.bias);
  for (Index r = 0; r < rows; r++) out[r] = load(record + r * BLOCK) * scale[r] + bias[r];
  for (Index r = 0; r < 2 * n; r++) out[r] = sigmoid<W>(out[r]);
  for (Index r = n; r < 2 * n; r++) out[r] += out[r];
  Sinkhorn<W, N>{site.n, site.iterations}.forward(out + 2 * n, sums_kept);
}

// The read of one token: H_pre X, its mean and inverse deviation, and the normalised row.
template <class W, int N>
static void read_token(const Site &site, const Shape<W> &s, const W *x, const W *pre, W *statistics, W *row) {
  const Index n = N ? N : s.n;
  const W *gain = static_cast<const W *>(site.gain), *shift = static_cast<const W *>(site.shift);
  Vec<W> total = {}, squares = {};
  for (Index k = 0; k < s.width; k += LANES<W>) {
    Vec<W> value = load(x + k) * pre[0];
    for (Index j = 1; j < n; j++) value += load(x + j * s.width + k) * pre[j];
    put(row + k, value);
    total += value;
    squares += value * value;
  }
  if (site.norm == NO_NORM) return;
  const W mean = site.norm == LAYER_NORM ? sum<W>(total) / W(s.d) : W(0);
  if (site.norm == LAYER_NORM) {
    for (Index k = s.d; k < s.width; k++) row[k] = mean;  // so that the padding adds nothing
    squares = Vec<W>{};
    for (Index k = 0; k < s.width; k += LANES<W>) {
      const Vec<W> apart = load(row + k) - mean;
      squares += apart * apart;
    }
  }
  const W inverse = W(1) / std::sqrt(sum<W>(squares) / W(s.d) + W(site.norm_eps));
  for (Index k = 0; k < s.width; k += LANES<W>)
    put(row + k, (load(row + k) - mean) * inverse * load(gain + k) + load(shift + k));
  statistics[0] = mean;
  statistics[BLOCK] = inverse;
}

template <class T, class U, int N> struct Forward {
  using W = Wide<T>;
  const Site &site;
  const Shape<W> s;
  const W *phi;
  // Scratch of one thread.
  W *x, *y, *before, *row, *pre;
  Vec<W> *partial, *vectors;

  static Index wanted(const Shape<W> &s) {
    return 2 * BLOCK * s.state() + BLOCK * s.width + s.width + BLOCK * s.n + CHUNK<W> +
           ((s.tall + 1) * BLOCK + s.rows) * LANES<W>;
  }

  Forward(const Site &site, const W *phi, W *scratch) : site(site), s(site), phi(phi) {
    partial = reinterpret_cast<Vec<W> *>(scratch);
    vectors = partial + (s.tall + 1) * BLOCK;
    x = reinterpret_cast<W *>(vectors + s.rows);
    before = x + BLOCK * s.state();
    y = before + BLOCK * s.state();
    row = y + BLOCK * s.width;
    pre = row + s.width;
  }

  void block(Index b) {
    const Index first = b * BLOCK, count = std::min<Index>(BLOCK, s.tokens - first);
    const W *state = site.update ? write(first, count) : given(first, count);
    if (!site.phi) return;
    for (Index t = 0; t < BLOCK; t++)
      partial[s.tall * BLOCK + t] = square_sum(state + std::min(t, count - 1) * s.state(), s.state());
    project<W, N>(s, state, count, phi, partial);
    for (Index r = 0; r < s.tall; r++)
      for (Index t = padded(count, WIDE_TILE / 2); t < BLOCK; t++) partial[r * BLOCK + t] = partial[r * BLOCK];
    W *record = static_cast<W *>(site.saved) + b * s.record();
    for (Index g = 0; g < BLOCK; g += LANES<W>) finish(record + g, first + g, g);
    for (Index t = 0; t < count; t++) read(first + t, state + t * s.state(), pre + t * s.n, record + s.rows * BLOCK + t);
  }

  const W *given(Index first, Index count) {
    return block_rows(static_cast<const T *>(site.streams) + first * s.n * s.d, count * s.n, s.d, s.width, x);
  }

  const W *write(Index first, Index count) {
    const W *old = block_rows(static_cast<const T *>(site.streams) + first * s.n * s.d, count * s.n, s.d, s.width, before);
    const W *update = block_rows(static_cast<const U *>(site.update) + first * s.d, count, s.d, s.width, y);
    const W *mixing = static_cast<const W *>(site.mixing) + first * s.n * s.n;
    const W *post = static_cast<const W *>(site.post) + first * s.n;
    T *to = static_cast<T *>(site.written) + first * s.n * s.d;
    constexpr bool same = std::is_same<T, W>::value;
    W *into = x;
    if constexpr (same)
      if (s.direct()) into = to;
    for (Index t = 0; t < count; t++)
      write_token<W, N>(s, old + t * s.state(), update + t * s.width, mixing + t * s.n * s.n, post + t * s.n,
                        into + t * s.state());
    if (same && s.direct()) return into;
    for (Index i = 0; i < count * s.n; i++) {
      narrow(x + i * s.width, s.d, to + i * s.d);
      if (!same) widen(to + i * s.d, s.d, s.width, x + i * s.width);  // go on from what is stored
    }
    return x;
  }

  // The coefficients of LANES tokens, and the numbers that backward needs.
  void finish(W *record, Index first, Index g) {
    const Vec<W> squares = sums<W>(partial + s.tall * BLOCK + g);
    Vec<W> inverse = squares * W(1.0 / double(s.n * s.d)) + W(site.eps);
    for (int l = 0; l < LANES<W>; l++) inverse[l] = W(1) / std::sqrt(inverse[l]);
    for (Index r = 0; r < s.rows; r++) put(record + r * BLOCK, sums<W>(partial + r * BLOCK + g) * inverse);
    put(record + s.rows * BLOCK, inverse);
    coefficients<W, N>(site, record, vectors, nullptr);
    const W *of = reinterpret_cast<const W *>(vectors);
    W *mixing = static_cast<W *>(site.next_mixing), *post = static_cast<W *>(site.next_post);
    for (Index l = 0; l < LANES<W> && first + l < s.tokens; l++) {
      for (Index i = 0; i < s.n; i++) pre[(g + l) * s.n + i] = of[i * LANES<W> + l];
      for (Index i = 0; i < s.n; i++) post[(first + l) * s.n + i] = of[(s.n + i) * LANES<W> + l];
      for (Index i = 0; i < s.n * s.n; i++) mixing[(first + l) * s.n * s.n + i] = of[(2 * s.n + i) * LANES<W> + l];
    }
  }

  void read(Index token, const W *state, const W *weights, W *statistics) {
    T *to = static_cast<T *>(site.read) + token * s.d;
    read_token<W, N>(site, s, state, weights, statistics + BLOCK, row);
    narrow(row, s.d, to);
  }
};
