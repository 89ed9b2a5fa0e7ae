// The forward of one site of mHC: the write of the site before, the coefficients, the read and its norm.
#pragma once

#include "mhc_sinkhorn.h"

enum Norm { NO_NORM, LAYER_NORM, RMS_NORM };

// What forward and backward are told; addresses that are not needed are null. Filled by Python, in this order.
struct Site {
  Index tokens, n, d, iterations, threads, norm;
  double eps, norm_eps;
  // A state, and the writes after it up to the state that is read: the sublayers' outputs, H_res and H_post.
  const void *streams;
  Index steps;
  const void *update[MOST_STEPS], *mixing[MOST_STEPS], *post[MOST_STEPS];
  // Of this site: parameters, in working precision.
  const void *phi, *alpha, *bias, *gain, *shift;
  // Results: the new state, the normalised read, H_res and H_post, and the numbers that backward needs.
  void *written, *read, *next_mixing, *next_post, *saved;
};

// Sizes that everything agrees on. The streams of a block of tokens are worked on in this order: chunk, token, stream,
// feature. A chunk of all that is multiplied then lies together, and no two lines fight for one place in the cache.
template <class W> struct Shape {
  Index tokens, n, d, width, rows, tall, chunks;

  explicit Shape(const Site &site)
      : tokens(site.tokens), n(site.n), d(site.d), width(padded(d, CHUNK<W>)), rows(n * n + 2 * n),
        tall(padded(rows, ROWS)), chunks(width / CHUNK<W>) {}

  Index blocks() const { return padded(tokens, BLOCK) / BLOCK; }
  Index piece() const { return n * CHUNK<W>; }                     // of a token, or of a row of phi, in a chunk
  Index stride() const { return BLOCK * piece() + CHUNK<W>; }      // from chunk to chunk of a block
  Index block() const { return chunks * stride(); }                // numbers of a block
  Index phi() const { return tall * n * width; }                   // numbers of phi, padded
  Index record() const { return (rows + 3) * BLOCK; }              // saved numbers of a block
  Index at(Index k) const { return k / CHUNK<W> * stride() + k % CHUNK<W>; }  // of feature k
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

// One token's part in the writes: X' = H_res X + H_post y, step after step, a vector of each stream at a time.
template <class T, class U, int N> struct Steps {
  using W = Wide<T>;
  const Shape<W> &s;
  Index count;
  const U *y[MOST_STEPS];
  const W *mixing[MOST_STEPS], *post[MOST_STEPS];

  // `room` takes padded copies of the updates.
  Steps(const Site &site, const Shape<W> &s, Index token, U *room) : s(s), count(site.steps) {
    for (Index i = 0; i < count; i++) {
      const Padded<U> row{s.d, s.width, room + i * s.width};
      y[i] = row.in(static_cast<const U *>(site.update[i]) + token * s.d, 1);
      mixing[i] = static_cast<const W *>(site.mixing[i]) + token * s.n * s.n;
      post[i] = static_cast<const W *>(site.post[i]) + token * s.n;
    }
  }

  // The numbers at `k` of every stream of the last state, from the first state's row.
  void run(const T *x, Index k, Vec<W> *state) const {
    const Index n = N ? N : s.n;
    for (Index j = 0; j < n; j++) state[j] = load(x + j * s.width + k);
    for (Index i = 0; i < count; i++) {
      const Vec<W> update = load(y[i] + k);
      Vec<W> next[N ? N : MOST_STREAMS];
      for (Index a = 0; a < n; a++) {
        next[a] = update * post[i][a];
        for (Index j = 0; j < n; j++) next[a] += state[j] * mixing[i][a * n + j];
      }
      for (Index a = 0; a < n; a++) state[a] = rounded<T>(next[a]);
    }
  }
};

// The streams that one token reads, stored where they are wanted, and the sum of their squares.
template <class T, class U, int N>
static Vec<Wide<T>> arrive_token(const Steps<T, U, N> &steps, const T *x, T *out, Wide<T> *to) {
  using W = Wide<T>;
  const Shape<W> &s = steps.s;
  const Index n = N ? N : s.n;
  Vec<W> squares[N ? N : 1] = {}, state[N ? N : MOST_STREAMS];
  for (Index k = 0; k < s.width; k += LANES<W>) {
    steps.run(x, k, state);
    W *place = to + s.at(k);
    for (Index i = 0; i < n; i++) {
      if (out) put(out + i * s.width + k, state[i]);
      put(place + i * CHUNK<W>, state[i]);
      squares[N ? i : 0] += state[i] * state[i];
    }
  }
  for (Index i = 1; i < (N ? N : 1); i++) squares[0] += squares[i];
  return squares[0];
}

// Some tokens times ROWS rows of phi over one chunk; partial sums of row r and token t lie at r * BLOCK + t.
template <class W, int N, int TOKENS>
static void project_tile(const Shape<W> &s, const W *x, const W *phi, Vec<W> *partial) {
  const Index row = (N ? N : s.n) * CHUNK<W>;
  Vec<W> total[ROWS][TOKENS];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
    for (int t = 0; t < TOKENS; t++) total[r][t] = partial[r * BLOCK + t];
  for (Index k = 0; k < row; k += LANES<W>) {
    Vec<W> of[TOKENS];
#pragma GCC unroll 8
    for (int t = 0; t < TOKENS; t++) of[t] = load(x + t * row + k);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      const Vec<W> weight = load(phi + r * row + k);
#pragma GCC unroll 8
      for (int t = 0; t < TOKENS; t++) total[r][t] += weight * of[t];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
    for (int t = 0; t < TOKENS; t++) partial[r * BLOCK + t] = total[r][t];
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

// The read of one token: H_pre X and its norm; mean and inverse deviation go to the record. LayerNorm counts the numbers
// and their mean from the first, so that a read far from zero loses nothing.
template <class T, int N>
static void read_token(const Site &site, const Shape<Wide<T>> &s, const Wide<T> *x, const Wide<T> *pre,
                       Wide<T> *statistics, Wide<T> *row, T *out) {
  using W = Wide<T>;
  const Index n = N ? N : s.n;
  const W *gain = static_cast<const W *>(site.gain), *shift = static_cast<const W *>(site.shift);
  Vec<W> total = {}, squares = {};
  W first = 0;
  for (Index k = 0; k < s.width; k += LANES<W>) {
    const W *place = x + s.at(k);
    Vec<W> value = load(place) * pre[0];
    for (Index j = 1; j < n; j++) value += load(place + j * CHUNK<W>) * pre[j];
    if (site.norm == NO_NORM) put(out + k, value);
    if (site.norm == LAYER_NORM && k == 0) first = value[0];
    value -= first;
    put(row + k, value);
    squares += value * value;
  }
  if (site.norm == NO_NORM) return;
  if (site.norm == LAYER_NORM) {
    std::fill(row + s.d, row + s.width, W(0));  // so that the padding adds nothing
    for (Index k = 0; k < s.width; k += LANES<W>) total += load(row + k);
  }
  const W mean = site.norm == LAYER_NORM ? sum<W>(total) / W(s.d) : W(0);
  if (site.norm == LAYER_NORM) {
    std::fill(row + s.d, row + s.width, mean);
    squares = Vec<W>{};
    for (Index k = 0; k < s.width; k += LANES<W>) {
      const Vec<W> apart = load(row + k) - mean;
      squares += apart * apart;
    }
  }
  const W inverse = W(1) / std::sqrt(sum<W>(squares) / W(s.d) + W(site.norm_eps));
  for (Index k = 0; k < s.width; k += LANES<W>)
    put(out + k, (load(row + k) - mean) * inverse * load(gain + k) + load(shift + k));
  statistics[0] = mean;
  statistics[BLOCK] = inverse;
}

template <class T, class U, int N> struct Forward {
  using W = Wide<T>;
  const Site &site;
  const Shape<W> s;
  const W *phi;
  // Scratch of one thread.
  W *x, *row, *pre;
  Vec<W> *partial, *vectors;
  Padded<T> state, written, read;
  U *updates;

  static Index wanted(const Shape<W> &s) {
    return (2 * s.n + 1 + MOST_STEPS) * s.width + s.block() + s.width + BLOCK * s.n + ((s.tall + 1) * BLOCK + s.rows) * LANES<W>;
  }

  Forward(const Site &site, const W *phi, W *scratch) : site(site), s(site), phi(phi) {
    partial = reinterpret_cast<Vec<W> *>(scratch);
    vectors = partial + (s.tall + 1) * BLOCK;
    x = reinterpret_cast<W *>(vectors + s.rows);
    row = x + s.block();
    pre = row + s.width;
    T *rows = reinterpret_cast<T *>(pre + BLOCK * s.n);
    state = {s.d, s.width, rows};
    written = {s.d, s.width, rows + s.n * s.width};
    read = {s.d, s.width, rows + 2 * s.n * s.width};
    updates = reinterpret_cast<U *>(rows + (2 * s.n + 1) * s.width);
  }

  void block(Index b) {
    const Index first = b * BLOCK, count = std::min<Index>(BLOCK, s.tokens - first);
    Vec<W> *squares = partial + s.tall * BLOCK;
    for (Index t = 0; t < count; t++) squares[t] = arrive(first + t, x + t * s.piece());
    if (!site.phi) return;
    for (Index t = count; t < BLOCK; t++) {  // past the last token: the last again
      squares[t] = squares[count - 1];
      for (Index c = 0; c < s.chunks; c++)
        std::copy_n(x + c * s.stride() + (count - 1) * s.piece(), s.piece(), x + c * s.stride() + t * s.piece());
    }
    project();
    W *record = static_cast<W *>(site.saved) + b * s.record();
    for (Index g = 0; g < BLOCK; g += LANES<W>) finish(record + g, first + g, g);
    for (Index t = 0; t < count; t++) {
      T *to = static_cast<T *>(site.read) + (first + t) * s.d;
      read_token<T, N>(site, s, x + t * s.piece(), pre + t * s.n, record + (s.rows + 1) * BLOCK + t, row, read.out(to));
      read.done(to, 1);
    }
  }

  Vec<W> arrive(Index token, W *place) {
    const Steps<T, U, N> steps(site, s, token, updates);
    const T *old = state.in(static_cast<const T *>(site.streams) + token * s.n * s.d, s.n);
    T *to = site.written ? static_cast<T *>(site.written) + token * s.n * s.d : nullptr;
    const Vec<W> squares = arrive_token(steps, old, to ? written.out(to) : nullptr, place);
    if (to) written.done(to, s.n);
    return squares;
  }

  // phi X' of a block.
  void project() {
    constexpr int TOKENS = WIDE_TILE / 2;
    std::fill(partial, partial + s.tall * BLOCK, Vec<W>{});
    for (Index c = 0; c < s.chunks; c++)
      for (Index t = 0; t < BLOCK; t += TOKENS)
        for (Index r = 0; r < s.tall; r += ROWS)
          project_tile<W, N, TOKENS>(s, x + c * s.stride() + t * s.piece(), phi + (c * s.tall + r) * s.piece(),
                                     partial + r * BLOCK + t);
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
};
