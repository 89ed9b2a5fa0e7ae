// One site of mHC (Xie et al. 2025, arXiv:2512.24880), forward and backward, over blocks of 16 tokens: the streams of
// a block are written, projected and read while they are in the cache. Each token is summed in an order of its own,
// so that its results do not depend on its neighbours.
#include "mhc_backward.h"

template <class T, class U, int N> struct Backward {
  using W = Wide<T>;
  const Site &site;
  const Gradients &grads;
  const Shape<W> s;
  const W *phi;
  Sums<W> &total;
  // Scratch of one thread; coefficients, their gradients and the sums of Sinkhorn for each group of LANES tokens.
  Vec<W> *products, *vectors, *mixed, *kept;
  W *x, *to, *normed, *g, *along, *mixing, *pre;
  Padded<T> own, after, read, out;
  Padded<U> update, of_update;
  U *updates;

  static constexpr Index GROUPS = BLOCK / LANES<W>;
  static Index wanted(const Shape<W> &s, Index iterations) {
    const Index vectors = (s.n * s.n + s.n) * BLOCK + s.rows + GROUPS * (s.rows + 2 * iterations * s.n);
    return vectors * LANES<W> + 2 * s.block() + s.width + s.tall * BLOCK + BLOCK + BLOCK * (s.n * s.n + s.n) +
           (3 * s.n + 3 + MOST_STEPS) * s.width;
  }

  Backward(const Site &site, const Gradients &grads, const W *phi, Sums<W> &total, W *scratch)
      : site(site), grads(grads), s(site), phi(phi), total(total) {
    products = reinterpret_cast<Vec<W> *>(scratch);
    vectors = products + (s.n * s.n + s.n) * BLOCK;
    mixed = vectors + GROUPS * s.rows;
    kept = mixed + s.rows;
    x = reinterpret_cast<W *>(kept + GROUPS * 2 * site.iterations * s.n);
    to = x + s.block();
    normed = to + s.block();
    g = normed + s.width;
    along = g + s.tall * BLOCK;
    mixing = along + BLOCK;
    pre = mixing + BLOCK * s.n * s.n;
    std::fill(g, g + s.tall * BLOCK, W(0));
    T *rows = reinterpret_cast<T *>(pre + BLOCK * s.n);
    const Index streams = s.n * s.width;
    own = {s.d, s.width, rows};
    after = {s.d, s.width, rows + streams};
    out = {s.d, s.width, rows + 2 * streams};
    read = {s.d, s.width, rows + 3 * streams};
    update = {s.d, s.width, reinterpret_cast<U *>(rows + 3 * streams + s.width)};
    of_update = {s.d, s.width, reinterpret_cast<U *>(rows + 3 * streams + 2 * s.width)};
    updates = of_update.room + s.width;
  }

  void block(Index b) {
    const Index first = b * BLOCK, count = std::min<Index>(BLOCK, s.tokens - first);
    if (site.phi)
      unread(static_cast<const W *>(site.saved) + b * s.record(), first, count);
    else
      for (Index t = 0; t < count; t++)
        arrive_token(Steps<T, U, N>(site, s, first + t, updates), after.in(state(grads.next_state, first + t), s.n),
                     static_cast<T *>(nullptr), to + t * s.piece());
    for (Index t = 0; t < count; t++) leave(first + t, to + t * s.piece(), products + t);
    if (grads.last_update) sum_post(first, count);
  }

  void leave(Index token, const W *grad, Vec<W> *product) {
    T *of_state = site.phi ? const_cast<T *>(state(grads.state, token)) : nullptr;
    U *of_y = static_cast<U *>(grads.update) + token * s.d;
    const U *y = grads.last_update ? update.in(static_cast<const U *>(grads.last_update) + token * s.d, 1) : nullptr;
    const W *post = static_cast<const W *>(grads.last_post) + token * s.n;
    unwrite_token<T, U, N>(s, grad, y, post, of_state ? out.out(of_state) : nullptr, of_update.out(of_y), product);
    if (of_state) out.done(of_state, s.n);
    if (y) of_update.done(of_y, 1);
  }

  const T *state(const void *from, Index token) const { return static_cast<const T *>(from) + token * s.n * s.d; }

  void unread(const W *record, Index first, Index count) {
    for (Index h = 0; h < GROUPS; h++) remake(record + h * LANES<W>, h);
    for (Index t = 0; t < count; t++) {
      const T *grad = read.in(static_cast<const T *>(grads.read) + (first + t) * s.d, 1);
      W *taken = x + t * s.piece();
      const Steps<T, U, N> steps(site, s, first + t, updates);
      const Unnorm<W> norm = unread_token<T, U, N>(site, steps, own.in(state(site.streams, first + t), s.n), pre + t * s.n,
                                                record + (s.rows + 1) * BLOCK + t, grad, total, taken, normed);
      Unmix<T, N>{site, s, mixing + t * s.n * s.n, pre + t * s.n, norm}.run(
          after.in(state(grads.next_state, first + t), s.n), grad, normed, taken, to + t * s.piece(), products + t);
    }
    for (Index q = 0; q < s.n * s.n + s.n; q++)
      for (Index t = count; t < BLOCK; t++) products[q * BLOCK + t] = Vec<W>{};
    for (Index h = 0; h < GROUPS; h++) uncoefficients(record + h * LANES<W>, first + h * LANES<W>, h);
    unproject(count);
  }

  // H_pre and H_res of a group of tokens, token by token.
  void remake(const W *record, Index h) {
    coefficients<W, N>(site, record, vectors + h * s.rows, kept + h * 2 * site.iterations * s.n);
    const W *of = reinterpret_cast<const W *>(vectors + h * s.rows);
    for (Index l = 0; l < LANES<W>; l++) {
      const Index t = h * LANES<W> + l;
      for (Index i = 0; i < s.n; i++) pre[t * s.n + i] = of[i * LANES<W> + l];
      for (Index i = 0; i < s.n * s.n; i++) mixing[t * s.n * s.n + i] = of[(2 * s.n + i) * LANES<W> + l];
    }
  }

  // Of a group of tokens: from the gradients of the coefficients to those of the projection, of scale and bias.
  void uncoefficients(const W *record, Index first, Index h) {
    const W *scale = static_cast<const W *>(site.alpha), *of_post = static_cast<const W *>(grads.next_post);
    Vec<W> *value = vectors + h * s.rows;
    const Vec<W> *product = products + h * LANES<W>;
    for (Index i = 0; i < s.n; i++) {
      Vec<W> post = {};
      for (Index l = 0; of_post && l < LANES<W> && first + l < s.tokens; l++) post[l] = of_post[(first + l) * s.n + i];
      const Vec<W> gate = value[i], half = value[s.n + i] * W(0.5);
      mixed[i] = sums<W>(product + (s.n * s.n + i) * BLOCK) * (gate - gate * gate);
      mixed[s.n + i] = (post + post) * (half - half * half);
    }
    for (Index i = 0; i < s.n * s.n; i++) mixed[2 * s.n + i] = sums<W>(product + i * BLOCK);
    Sinkhorn<W, N>{s.n, site.iterations}.backward(value + 2 * s.n, kept + h * 2 * site.iterations * s.n,
                                                  mixed + 2 * s.n);
    const Vec<W> inverse = load(record + s.rows * BLOCK);
    Vec<W> parallel = {};
    for (Index r = 0; r < s.rows; r++) {
      const Vec<W> projected = load(record + r * BLOCK), scaled = mixed[r] * scale[r];
      total.bias[r] += mixed[r];
      total.scale[r] += mixed[r] * projected;
      parallel += scaled * projected;
      put(g + r * BLOCK + h * LANES<W>, scaled * inverse);
    }
    put(along + h * LANES<W>, parallel * inverse * inverse * W(1.0 / double(s.n * s.d)));
  }

  // Both products with phi, chunk by chunk.
  void unproject(Index count) {
    for (Index c = 0; c < s.chunks; c++)
      for (Index j = 0; j < s.n; j++) {
        const Index at = c * s.stride() + j * CHUNK<W>, piece = c * s.tall * s.piece() + j * CHUNK<W>;
        for (Index t = 0; t < count; t += WIDE_TILE)
          unproject_tile(s, phi + piece, g + t, along + t, x + at + t * s.piece(), to + at + t * s.piece());
        for (Index r = 0; r < s.tall; r += TALL_TILE)
          phi_tile(s, g + r * BLOCK, x + at, count, total.phi + piece + r * s.piece());
      }
  }

  void sum_post(Index first, Index count) {
    for (Index i = 0; i < s.n; i++)
      for (Index h = 0; h < BLOCK; h += LANES<W>) {
        const Vec<W> whole = sums<W>(products + i * BLOCK + h);
        for (Index l = 0; l < LANES<W> && h + l < count; l++)
          static_cast<W *>(grads.post)[(first + h + l) * s.n + i] = whole[l];
      }
  }
};

// Which of the three factors belongs to a row of phi.
template <class W> static Index owner(const Shape<W> &s, Index row) { return std::min<Index>(row / s.n, 2); }

// The site with its parameters packed: phi by chunks, the norm's padded, a factor for each row.
template <class W> static Site packed(const Site &site, const Shape<W> &s, W **phi) {
  Site changed = site;
  *phi = kept<W>(s.phi() + 2 * s.width + s.rows, 0);
  if (!site.phi) return changed;
  pack_phi(s, static_cast<const W *>(site.phi), *phi);
  W *into = *phi + s.phi();
  const void **norm[2] = {&changed.gain, &changed.shift};
  for (const void **one : norm) {
    std::fill(into, into + s.width, W(0));
    if (*one) std::copy_n(static_cast<const W *>(*one), s.d, into);
    *one = into;
    into += s.width;
  }
  for (Index r = 0; r < s.rows; r++) into[r] = static_cast<const W *>(site.alpha)[owner(s, r)];
  changed.alpha = into;
  return changed;
}

template <class T, class U, int N> static void forward(const Site &given) {
  using W = Wide<T>;
  const Shape<W> s(given);
  W *phi;
  const Site site = packed(given, s, &phi);
  const int threads = int(std::max<Index>(1, std::min(site.threads, s.blocks())));
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; thread++) {
    Forward<T, U, N> run(site, phi, kept<W>(Forward<T, U, N>::wanted(s), 1));
    for (Index b = s.blocks() * thread / threads; b < s.blocks() * (thread + 1) / threads; b++) run.block(b);
  }
}

// The sums of all threads, one after the other, without padding.
template <class W>
static void gather(const Shape<W> &s, const Gradients &grads, const Sums<W> &part, bool first) {
  auto add = [&](void *to, Index at, W value) {
    if (to) static_cast<W *>(to)[at] = first ? value : static_cast<W *>(to)[at] + value;
  };
  const W *phi = part.phi;
  for (Index c = 0; c < s.chunks; c++)
    for (Index r = 0; r < s.tall; r++)
      for (Index j = 0; j < s.n; j++, phi += CHUNK<W>)
        for (Index f = 0; r < s.rows && f < CHUNK<W> && c * CHUNK<W> + f < s.d; f++)
          add(grads.phi, (r * s.n + j) * s.d + c * CHUNK<W> + f, phi[f]);
  for (Index i = 0; i < 3; i++) {
    W total = 0;
    for (Index r = 0; r < s.rows; r++)
      if (owner(s, r) == i) total += sum<W>(part.scale[r]);
    add(grads.alpha, i, total);
  }
  for (Index r = 0; r < s.rows; r++) add(grads.bias, r, sum<W>(part.bias[r]));
  for (Index k = 0; k < s.d; k++) add(grads.gain, k, part.gain[k]);
  for (Index k = 0; k < s.d; k++) add(grads.shift, k, part.shift[k]);
}

template <class T, class U, int N> static void backward(const Site &given, const Gradients &grads) {
  using W = Wide<T>;
  const Shape<W> s(given);
  W *phi;
  const Site site = packed(given, s, &phi);
  const int threads = int(std::max<Index>(1, std::min(site.threads, s.blocks())));
  W *room = kept<W>(Sums<W>::wanted(s) * threads, 2);
  std::vector<Sums<W>> parts;
  for (int thread = 0; thread < threads; thread++) parts.emplace_back(s, room + thread * Sums<W>::wanted(s));
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; thread++) {
    Backward<T, U, N> run(site, grads, phi, parts[thread], kept<W>(Backward<T, U, N>::wanted(s, site.iterations), 3));
    for (Index b = s.blocks() * thread / threads; b < s.blocks() * (thread + 1) / threads; b++) run.block(b);
  }
  for (int thread = 0; site.phi && thread < threads; thread++) gather(s, grads, parts[thread], thread == 0);
}

#define MHC(NAME, T, U)                                                                                 \
  extern "C" void mhc_forward_##NAME(const Site *site) {                                                \
    site->n == 4 ? forward<T, U, 4>(*site) : forward<T, U, 0>(*site);                                   \
  }                                                                                                     \
  extern "C" void mhc_backward_##NAME(const Site *site, const Gradients *grads) {                       \
    site->n == 4 ? backward<T, U, 4>(*site, *grads) : backward<T, U, 0>(*site, *grads);                 \
  }
MHC(float, float, float)
MHC(double, double, double)
MHC(bfloat16, bfloat16, bfloat16)
MHC(narrow_float, float, bfloat16)
