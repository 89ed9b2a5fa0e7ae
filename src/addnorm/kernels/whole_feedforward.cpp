// A feed-forward sublayer, y = W2 act(W1 x + b1) + b2, in one call, and its backward in another: for small nets, where
// calls take longer than what they compute.
#include "activations.h"
#include "products.h"

// Filled by Python, in this order; gradients are null in a forward, biases where there are none.
struct FeedForward {
  Index tokens, width, inner, activation, threads;
  const void *x, *first, *first_bias, *second, *second_bias;
  // What backward needs: act(h) and act'(h) of h = W1 x + b1; or, to keep half as much, h alone, and no slopes.
  void *hidden, *slopes, *y;
  const void *grad;
  void *of_x, *of_first, *of_first_bias, *of_second, *of_second_bias;
};

namespace {

const Index BESIDE = 48;  // rows between whose products and activations nothing leaves the first caches

template <class W> struct Sizes {
  Index tokens, d, f;
  int threads;
  explicit Sizes(const FeedForward &own)
      : tokens(own.tokens), d(own.width), f(own.inner), threads(int(own.threads)) {}
};

template <class W> void forward(const FeedForward &own) {
  const Sizes<W> s(own);
  const Index of_first = packed<W>(s.d, s.f), of_second = packed<W>(s.f, s.d);
  Room<W> room{kept<W>(Room<W>::of(of_first) + of_second, 0)};
  const Packed<W> first = pack(transposed(in<W>(own.first), s.d), s.d, s.f, room.take(of_first));
  const Packed<W> second = pack(transposed(in<W>(own.second), s.f), s.f, s.d, room.take(of_second));
#pragma omp parallel for num_threads(s.threads) schedule(static) if (s.threads > 1)
  for (Index t = 0; t < s.tokens; t += BESIDE) {
    const Index rows = std::min(BESIDE, s.tokens - t);
    W *hidden = out<W>(own.hidden) + t * s.f, *slopes = own.slopes ? out<W>(own.slopes) + t * s.f : nullptr;
    W *activated = slopes ? hidden : kept<W>(BESIDE * s.f, 1);
    multiply(plain(in<W>(own.x) + t * s.d, s.d), first, rows, s.f, s.d, {hidden, s.f, false, in<W>(own.first_bias)});
    activate_row<W>(Activation(own.activation), hidden, rows * s.f, activated, slopes);
    multiply(plain<W>(activated, s.f), second, rows, s.d, s.f,
             {out<W>(own.y) + t * s.d, s.d, false, in<W>(own.second_bias)});
  }
}

template <class W> void backward(const FeedForward &own) {
  const Sizes<W> s(own);
  const Index of_first = packed<W>(s.f, s.d), of_second = packed<W>(s.d, s.f), of_hidden = s.tokens * s.f;
  Room<W> room{kept<W>(Room<W>::of(of_first) + Room<W>::of(of_second) + 2 * Room<W>::of(of_hidden), 0)};
  W *again = room.take(of_hidden), *of_inner = room.take(of_hidden);
  const W *grad = in<W>(own.grad), *x = in<W>(own.x), *hidden = in<W>(own.hidden);
  const W *activated = own.slopes ? hidden : again;
  const Packed<W> first = pack(plain(in<W>(own.first), s.d), s.f, s.d, room.take(of_first));
  const Packed<W> second = pack(plain(in<W>(own.second), s.f), s.d, s.f, room.take(of_second));
#pragma omp parallel for num_threads(s.threads) schedule(static) if (s.threads > 1)
  for (Index t = 0; t < s.tokens; t += BESIDE) {
    const Index rows = std::min(BESIDE, s.tokens - t), count = rows * s.f;
    W *fresh = own.slopes ? nullptr : kept<W>(BESIDE * s.f, 1), *g = of_inner + t * s.f;
    if (fresh) activate_row<W>(Activation(own.activation), hidden + t * s.f, count, again + t * s.f, fresh);
    const W *slopes = fresh ? fresh : in<W>(own.slopes) + t * s.f;
    multiply(plain(grad + t * s.d, s.d), second, rows, s.f, s.d, {g, s.f, false, nullptr});
#pragma omp simd
    for (Index i = 0; i < count; i++) g[i] *= slopes[i];
    multiply(plain<W>(g, s.f), first, rows, s.d, s.f, {out<W>(own.of_x) + t * s.d, s.d, false, nullptr});
  }
#pragma omp parallel for num_threads(s.threads) schedule(static) if (s.threads > 1)
  for (int thread = 0; thread < s.threads; thread++) {
    W *panels = kept<W>(std::max(packed<W>(DEEP, s.f), packed<W>(DEEP, s.d)), 1);
    learn<W>(grad, s.d, activated, s.f, s.tokens, Share(s.d, thread, s.threads), out<W>(own.of_second),
             out<W>(own.of_second_bias), panels);
    learn<W>(of_inner, s.f, x, s.d, s.tokens, Share(s.f, thread, s.threads), out<W>(own.of_first),
             out<W>(own.of_first_bias), panels);
  }
}

}  // namespace

#define OF(T)                                                                                \
  void whole_feedforward_forward_##T(const FeedForward *own) { forward<T>(*own); }   \
  void whole_feedforward_backward_##T(const FeedForward *own) { backward<T>(*own); }

extern "C" {
OF(float)
OF(double)
}
