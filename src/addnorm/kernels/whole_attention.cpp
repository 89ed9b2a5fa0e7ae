// A self-attention sublayer, W_o softmax(q k^T / sqrt(d_head)) v with q, k, v = R W_q x, R W_k x, W_v x, in one call, and
// its backward in another: for small nets, where calls take longer than what they compute.
#include <limits>

#include "products.h"

// Filled by Python, in this order; gradients are null in a forward; biases, angles and `keep` where there are none.
struct Attention {
  Index batch, tokens, width, heads, causal, threads;
  const void *x, *weights[4], *biases[4];  // of queries, keys, values, output
  const void *cosines, *sines;             // of each token and pair of a head
  const uint8_t *keep;                     // of each row and token: whether it may be attended to
  // Turned; what lies before `y` backward needs. Of each query the largest score and the inverse sum of exponentials: a
  // single logarithm of both would lose the small scores beside large ones.
  void *queries, *keys, *values, *joined, *most, *inverse, *y;
  const void *grad;
  void *of_x, *of_weights[4], *of_biases[4];
};

namespace {

const Index BESIDE = 24;  // queries whose scores are worked on together

template <class W> struct Sizes {
  Index batch, tokens, d, heads, head, rows;
  W scale;
  bool causal;
  int threads;
  explicit Sizes(const Attention &own)
      : batch(own.batch), tokens(own.tokens), d(own.width), heads(own.heads), head(own.width / own.heads),
        rows(own.batch * own.tokens), scale(W(1 / std::sqrt(double(head)))), causal(own.causal != 0),
        threads(int(own.threads)) {}
  Index keys(Index from, Index some) const { return causal ? from + some : tokens; }
};

// Pairs (x_i, x_{i + d/2}) of each head turned by their token's angle, or back.
template <class W> void turn(const Attention &own, const Sizes<W> &s, W *x, Index row, W direction) {
  const Index half = s.head / 2, token = row % s.tokens;
  const W *cosine = in<W>(own.cosines) + token * half, *sine = in<W>(own.sines) + token * half;
  for (Index h = 0; h < s.heads; h++) {
    W *one = x + row * s.d + h * s.head;
#pragma omp simd
    for (Index i = 0; i < half; i++) {
      const W first = one[i], second = one[i + half], other = direction * sine[i];
      one[i] = first * cosine[i] - second * other;
      one[i + half] = second * cosine[i] + first * other;
    }
  }
}

template <class W> Index stride_of(Index keys) { return padded(keys, LANES<W>); }

// The scores of some queries of a head, from the first that is told; forbidden ones are -infinity.
template <class W>
void score(const Sizes<W> &s, const uint8_t *keep, const W *queries, Packed<W> keys, Index first, Index some, Index count,
           Index stride, W *scores) {
  multiply(plain(queries + first * s.d, s.d), keys, some, count, s.head, {scores, stride, false, nullptr});
  for (Index r = 0; keep && r < some; r++)
    for (Index i = 0; i < count; i++)
      if (!keep[i]) scores[r * stride + i] = -std::numeric_limits<W>::infinity();
}

// exp(scale (s - m)) of the first `keys` of a row of scores, of what may not be attended to 0; their sum. The rest of the
// row, up to `count`, becomes 0.
template <class W> W exponentials(W *row, Index keys, Index count, W scale, W most) {
  constexpr Index L = LANES<W>;
  constexpr W nothing = -std::numeric_limits<W>::infinity();
  for (Index i = keys; i < padded(keys, L); i++) row[i] = nothing;
  Vec<W> total = {};
  for (Index i = 0; i < keys; i += L) {
    const Vec<W> x = load(row + i), e = x == nothing ? Vec<W>{} : exponential_of_negative<W>((x - most) * scale);
    put(row + i, e);
    total += e;
  }
  for (Index i = padded(keys, L); i < count; i++) row[i] = W(0);
  return sum<W>(total);
}

template <class W> void mix(const Attention &own, const Sizes<W> &s, Index row, Index h) {
  const Index begin = row * s.tokens * s.d + h * s.head, stride = stride_of<W>(s.tokens);
  const W *queries = in<W>(own.queries) + begin;
  W *joined = out<W>(own.joined) + begin, *largest = out<W>(own.most) + (row * s.heads + h) * s.tokens;
  W *inverses = out<W>(own.inverse) + (row * s.heads + h) * s.tokens;
  const uint8_t *keep = own.keep ? own.keep + row * s.tokens : nullptr;
  Room<W> room{kept<W>(Room<W>::of(packed<W>(s.head, s.tokens)) + Room<W>::of(packed<W>(s.tokens, s.head)) +
                           BESIDE * stride, 1)};
  const Packed<W> keys = pack(transposed(in<W>(own.keys) + begin, s.d), s.head, s.tokens,
                              room.take(packed<W>(s.head, s.tokens)));
  W *of_values = room.take(packed<W>(s.tokens, s.head));
  const Packed<W> values = pack(plain(in<W>(own.values) + begin, s.d), s.tokens, s.head, of_values);
  for (Index i = 0; keep && i < s.tokens; i++)  // what is not attended to may be anything
    for (Index k = 0; !keep[i] && k < packed<W>(1, s.head); k += panel_of<W>(s.head))
      std::fill_n(of_values + k * s.tokens + i * panel_of<W>(s.head), panel_of<W>(s.head), W(0));
  W *scores = room.take(BESIDE * stride);
  for (Index t = 0; t < s.tokens; t += BESIDE) {
    const Index some = std::min(BESIDE, s.tokens - t), count = s.keys(t, some);
    score(s, keep, queries, keys, t, some, count, stride, scores);
    for (Index r = 0; r < some; r++) {
      const Index allowed = s.keys(t + r, 1);
      W *one = scores + r * stride, most = -std::numeric_limits<W>::infinity();
#pragma omp simd reduction(max : most)
      for (Index i = 0; i < allowed; i++) most = one[i] > most ? one[i] : most;
      if (most == -std::numeric_limits<W>::infinity()) most = W(0);  // it may attend to nothing
      const W total = exponentials<W>(one, allowed, count, s.scale, most);
      const W inverse = total == W(0) ? W(0) : 1 / total;
      largest[t + r] = most, inverses[t + r] = inverse;
#pragma omp simd
      for (Index i = 0; i < count; i++) one[i] *= inverse;
    }
    multiply(plain<W>(scores, stride), values, some, s.head, s.causal ? t : count,
             {joined + t * s.d, s.d, false, nullptr});
    if (!s.causal) continue;
    for (Index r = 0; r < some; r++)  // of its own block a token sees a part: a later NaN times 0 would be NaN
      for (Index i = t; i <= t + r; i++) {
        const W weight = scores[r * stride + i], *value = in<W>(own.values) + begin + i * s.d;
        W *to = joined + (t + r) * s.d;
        if (keep && !keep[i]) continue;
#pragma omp simd
        for (Index k = 0; k < s.head; k++) to[k] += weight * value[k];
      }
  }
}

template <class W>
void forward(const Attention &own) {
  const Sizes<W> s(own);
  const Index of_weight = Room<W>::of(packed<W>(s.d, s.d));
  W *at = kept<W>(4 * of_weight, 0), *made[3] = {out<W>(own.queries), out<W>(own.keys), out<W>(own.values)};
  Packed<W> weights[4];
  for (int i = 0; i < 4; i++) weights[i] = pack(transposed(in<W>(own.weights[i]), s.d), s.d, s.d, at + i * of_weight);
#pragma omp parallel num_threads(s.threads) if (s.threads > 1)
  {
#pragma omp for schedule(static)
    for (Index t = 0; t < s.rows; t += BESIDE) {
      const Index some = std::min(BESIDE, s.rows - t);
      for (int i = 0; i < 3; i++)
        multiply(plain(in<W>(own.x) + t * s.d, s.d), weights[i], some, s.d, s.d,
                 {made[i] + t * s.d, s.d, false, in<W>(own.biases[i])});
      for (Index r = t; own.cosines && r < t + some; r++) turn(own, s, made[0], r, W(1)), turn(own, s, made[1], r, W(1));
    }
#pragma omp for schedule(static)
    for (Index i = 0; i < s.batch * s.heads; i++) mix(own, s, i / s.heads, i % s.heads);
#pragma omp for schedule(static)
    for (Index t = 0; t < s.rows; t += BESIDE)
      multiply(plain(in<W>(own.joined) + t * s.d, s.d), weights[3], std::min(BESIDE, s.rows - t), s.d, s.d,
               {out<W>(own.y) + t * s.d, s.d, false, in<W>(own.biases[3])});
  }
}

// The gradients of a head's queries, keys and values, of which the first is still to be turned back.
template <class W> void unmix(const Attention &own, const Sizes<W> &s, const W *of_joined, W *of[3], Index row, Index h) {
  const Index begin = row * s.tokens * s.d + h * s.head, stride = stride_of<W>(s.tokens);
  const W *largest = in<W>(own.most) + (row * s.heads + h) * s.tokens;
  const W *inverses = in<W>(own.inverse) + (row * s.heads + h) * s.tokens;
  const W *queries = in<W>(own.queries) + begin, *joined = in<W>(own.joined) + begin, *g = of_joined + begin;
  const uint8_t *keep = own.keep ? own.keep + row * s.tokens : nullptr;
  const Index wide = Room<W>::of(packed<W>(s.head, s.tokens)), tall = Room<W>::of(packed<W>(s.tokens, s.head));
  const Index few = Room<W>::of(packed<W>(BESIDE, s.head)), block = Room<W>::of(BESIDE * stride);
  Room<W> room{kept<W>(2 * wide + tall + 2 * few + 2 * block, 1)};
  const auto matrix = [&](const void *at) { return in<W>(at) + begin; };
  const Packed<W> keys = pack(transposed(matrix(own.keys), s.d), s.head, s.tokens, room.take(wide));
  const Packed<W> values = pack(transposed(matrix(own.values), s.d), s.head, s.tokens, room.take(wide));
  const Packed<W> keys_by_row = pack(plain(matrix(own.keys), s.d), s.tokens, s.head, room.take(tall));
  W *of_queries = room.take(few), *of_grads = room.take(few), *weights = room.take(block), *slopes = room.take(block);
  for (Index t = 0; t < s.tokens; t++)
    for (int i = 1; i < 3; i++) std::fill_n(of[i] + begin + t * s.d, s.head, W(0));
  for (Index t = 0; t < s.tokens; t += BESIDE) {
    const Index some = std::min(BESIDE, s.tokens - t), count = s.keys(t, some);
    score(s, keep, queries, keys, t, some, count, stride, weights);
    multiply(plain(g + t * s.d, s.d), values, some, count, s.head, {slopes, stride, false, nullptr});
    for (Index r = 0; r < some; r++) {
      W *p = weights + r * stride, *slope = slopes + r * stride, inner = 0;
      exponentials<W>(p, s.keys(t + r, 1), count, s.scale, largest[t + r]);
#pragma omp simd
      for (Index i = 0; i < count; i++) p[i] *= inverses[t + r];
      for (Index i = 0; i < s.head; i++) inner += g[(t + r) * s.d + i] * joined[(t + r) * s.d + i];
#pragma omp simd
      for (Index i = 0; i < count; i++) slope[i] = p[i] == W(0) ? W(0) : p[i] * (slope[i] - inner) * s.scale;
    }
    const Packed<W> grads = pack(plain(g + t * s.d, s.d), some, s.head, of_grads);
    const Packed<W> turned = pack(plain(queries + t * s.d, s.d), some, s.head, of_queries);
    multiply(plain<W>(slopes, stride), keys_by_row, some, s.head, count, {of[0] + begin + t * s.d, s.d, false, nullptr});
    multiply(transposed<W>(slopes, stride), turned, count, s.head, some, {of[1] + begin, s.d, true, nullptr});
    multiply(transposed<W>(weights, stride), grads, count, s.head, some, {of[2] + begin, s.d, true, nullptr});
  }
}

template <class W> void backward(const Attention &own) {
  const Sizes<W> s(own);
  const Index of_weight = Room<W>::of(packed<W>(s.d, s.d)), of_rows = Room<W>::of(s.rows * s.d);
  Room<W> room{kept<W>(4 * of_weight + 4 * of_rows, 0)};
  Packed<W> weights[4];
  for (int i = 0; i < 4; i++) weights[i] = pack(plain(in<W>(own.weights[i]), s.d), s.d, s.d, room.take(of_weight));
  W *of_joined = room.take(of_rows), *of[3];
  for (W *&one : of) one = room.take(of_rows);
  const W *grad = in<W>(own.grad), *x = in<W>(own.x);
#pragma omp parallel num_threads(s.threads) if (s.threads > 1)
  {
#pragma omp for schedule(static)
    for (Index t = 0; t < s.rows; t += BESIDE)
      multiply(plain(grad + t * s.d, s.d), weights[3], std::min(BESIDE, s.rows - t), s.d, s.d,
               {of_joined + t * s.d, s.d, false, nullptr});
#pragma omp for schedule(static)
    for (Index i = 0; i < s.batch * s.heads; i++) unmix(own, s, of_joined, of, i / s.heads, i % s.heads);
#pragma omp for schedule(static)
    for (Index t = 0; t < s.rows; t += BESIDE) {
      const Index some = std::min(BESIDE, s.rows - t);
      for (Index r = t; own.cosines && r < t + some; r++) turn(own, s, of[0], r, W(-1)), turn(own, s, of[1], r, W(-1));
      for (int i = 0; i < 3; i++)
        multiply(plain<W>(of[i] + t * s.d, s.d), weights[i], some, s.d, s.d,
                 {out<W>(own.of_x) + t * s.d, s.d, i > 0, nullptr});
    }
#pragma omp for schedule(static)
    for (int thread = 0; thread < s.threads; thread++) {
      const Share share(s.d, thread, s.threads);
      W *panels = kept<W>(packed<W>(DEEP, s.d), 1);
      for (int i = 0; i < 4; i++)
        learn<W>(i < 3 ? of[i] : grad, s.d, i < 3 ? x : in<W>(own.joined), s.d, s.rows, share,
                 out<W>(own.of_weights[i]), out<W>(own.of_biases[i]), panels);
    }
  }
}

}  // namespace

#define OF(T)                                                                     \
  void whole_attention_forward_##T(const Attention *own) { forward<T>(*own); }    \
  void whole_attention_backward_##T(const Attention *own) { backward<T>(*own); }

extern "C" {
OF(float)
OF(double)
}
