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
  // Scratch of one thread.
  Vec<W> *products, *vectors, *mixed, *kept;
  W *x, *next, *y, *read, *of_read, *of_update, *to, *g, *along, *mixing, *pre;

  static Index wanted(const Shape<W> &s, Index iterations) {
    const Index vectors = (s.n * s.n + s.n) * BLOCK + 2 * s.rows + 2 * iterations * s.n;
    return vectors * LANES<W> + 3 * BLOCK * s.state() + 3 * BLOCK * s.width + s.width + s.tall * BLOCK + BLOCK +
           BLOCK * (s.n * s.n + s.n);
  }

  Backward(const Site &site, const Gradients &grads, const W *phi, Sums<W> &total, W *scratch)
      : site(site), grads(grads), s(site), phi(phi), total(total) {
    products = reinterpret_cast<Vec<W> *>(scratch);
    vectors = products + (s.n * s.n + s.n) * BLOCK;
    mixed = vectors + s.rows;
    kept = mixed + s.rows;
    x = reinterpret_cast<W *>(kept + 2 * site.iterations * s.n);
    next = x + BLOCK * s.state();
    to = next + BLOCK * s.state();
    y = to + BLOCK * s.state();
    read = y + BLOCK * s.width;
    of_read = read + BLOCK * s.width;
    of_update = of_read + BLOCK * s.width;
    g = of_update + s.width;
    along = g + s.tall * BLOCK;
    mixing = along + BLOCK;
    pre = mixing + BLOCK * s.n * s.n;
    std::fill(g, g + s.tall * BLOCK, W(0));
  }

  void block(Index b) {
    const Index first = b * BLOCK, count = std::min<Index>(BLOCK, s.tokens - first);
    T *out = static_cast<T *>(grads.state) + first * s.n * s.d;
    W *result = to;
    constexpr bool same = std::is_same<T, W>::value;
    if constexpr (same)
      if (s.direct()) result = out;
    const bool in_place = same && s.direct();
    if (site.phi)
      unread(b, first, count, result);
    else
      result = const_cast<W *>(rows(grads.next_state, first, count, next));
    if (site.phi && !in_place)
      for (Index i = 0; i < count * s.n; i++) {
        narrow(to + i * s.width, s.d, out + i * s.d);
        if (!same) widen(out + i * s.d, s.d, s.width, to + i * s.width);  // go on from what is stored
      }
    if (site.update) unwrite(first, count, result);
  }

  const W *rows(const void *from, Index first, Index count, W *scratch) {
    return block_rows(static_cast<const T *>(from) + first * s.n * s.d, count * s.n, s.d, s.width, scratch);
  }

  void unread(Index b, Index first, Index count, W *result) {
    const W *record = static_cast<const W *>(site.saved) + b * s.record();
    const W *state = rows(site.streams, first, count, x), *after = rows(grads.next_state, first, count, next);
    const W *grad = block_rows(static_cast<const T *>(grads.read) + first * s.d, count, s.d, s.width, read);
    for (Index q = 0; count < BLOCK && q < s.n * s.n + s.n; q++)
      for (Index t = count; t < BLOCK; t++) products[q * BLOCK + t] = Vec<W>{};
    for (Index h = 0; h < BLOCK; h += LANES<W>) remake(record + h, h);
    for (Index t = 0; t < count; t++) {
      const W *own = state + t * s.state(), *from = after + t * s.state();
      W *back = of_read + t * s.width;
      unread_token<W, N>(site, s, own, pre + t * s.n, record + (s.rows + 1) * BLOCK + t, grad + t * s.width, total, back);
      dots_of_token<W, N>(s, own, from, back, products + t);
      unmix_token<W, N>(s, from, back, mixing + t * s.n * s.n, pre + t * s.n, result + t * s.state());
    }
    for (Index h = 0; h < BLOCK; h += LANES<W>) uncoefficients(record + h, first + h, h);
    for (Index t = count; t < BLOCK; t++) {
      along[t] = along[count - 1];
      for (Index r = 0; r < s.rows; r++) g[r * BLOCK + t] = g[r * BLOCK + count - 1];
    }
    unproject(s, phi, g, along, state, count, result, total.phi);
  }

  // H_pre and H_res of LANES tokens, token by token.
  void remake(const W *record, Index h) {
    coefficients<W, N>(site, record, vectors, nullptr);
    const W *of = reinterpret_cast<const W *>(vectors);
    for (Index l = 0; l < LANES<W>; l++) {
      for (Index i = 0; i < s.n; i++) pre[(h + l) * s.n + i] = of[i * LANES<W> + l];
      for (Index i = 0; i < s.n * s.n; i++) mixing[(h + l) * s.n * s.n + i] = of[(2 * s.n + i) * LANES<W> + l];
    }
  }

  // Of LANES tokens: from the gradients of the coefficients to those of the projection; of scale and bias.
  void uncoefficients(const W *record, Index first, Index h) {
    const W *scale = static_cast<const W *>(site.alpha), *of_post = static_cast<const W *>(grads.next_post);
    coefficients<W, N>(site, record, vectors, kept);
    for (Index i = 0; i < s.n; i++) {
      Vec<W> post = {};
      for (Index l = 0; of_post && l < LANES<W> && first + l < s.tokens; l++) post[l] = of_post[(first + l) * s.n + i];
      const Vec<W> gate = vectors[i], half = vectors[s.n + i] * W(0.5);
      mixed[i] = sums<W>(products + (s.n * s.n + i) * BLOCK + h) * (gate - gate * gate);
      mixed[s.n + i] = (post + post) * (half - half * half);
    }
    for (Index i = 0; i < s.n * s.n; i++) mixed[2 * s.n + i] = sums<W>(products + i * BLOCK + h);
    Sinkhorn<W, N>{s.n, site.iterations}.backward(vectors + 2 * s.n, kept, mixed + 2 * s.n);
    const Vec<W> inverse = load(record + s.rows * BLOCK);
    Vec<W> parallel = {};
    for (Index r = 0; r < s.rows; r++) {
      const Vec<W> projected = load(record + r * BLOCK), scaled = mixed[r] * scale[r];
      total.bias[r] += mixed[r];
      total.scale[r] += mixed[r] * projected;
      parallel += scaled * projected;
      put(g + r * BLOCK + h, scaled * inverse);
    }
    put(along + h, parallel * inverse * inverse * W(1.0 / double(s.n * s.d)));
  }

  void unwrite(Index first, Index count, const W *grad) {
    const W *update = block_rows(static_cast<const U *>(site.update) + first * s.d, count, s.d, s.width, y);
    const W *post = static_cast<const W *>(site.post) + first * s.n;
    U *out = static_cast<U *>(grads.update) + first * s.d;
    for (Index t = 0; t < count; t++) {
      unwrite_token<W, N>(s, grad + t * s.state(), update + t * s.width, post + t * s.n, of_update, products + t);
      narrow(of_update, s.d, out + t * s.d);
    }
    for (Index i = 0; i < s.n; i++)
      for (Index h = 0; h < BLOCK; h += LANES<W>) {
        const Vec<W> all_of = sums<W>(products + i * BLOCK + h);
        for (Index l = 0; l < LANES<W> && h + l < count; l++)
          static_cast<W *>(grads.post)[(first + h + l) * s.n + i] = all_of[l];
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
