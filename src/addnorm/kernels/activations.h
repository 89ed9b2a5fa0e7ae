// Activations and their derivatives, a vector at a time.
#pragma once

#include "mhc_vector.h"

enum Activation { RELU, GELU, GELU_TANH };

// erfc(|x|) and exp(-x^2). In float, erfc is exp(-x^2) times a polynomial in 1 / (1 + 0.4 |x|), fitted to 3e-8 of its
// value up to 10; in double, the library's.
static inline void tails(Vec<float> x, Vec<float> &erfc, Vec<float> &bell) {
  const float terms[] = {0.028695647f, -0.0747483574f, -0.0636878932f, 0.2757905f,   -0.0685687163f,
                         0.268638673f, 0.177415991f,   0.231355212f,   0.225082569f, 2.64055312e-05f};
  const Vec<float> size = x < 0 ? -x : x, t = 1.0f / (1.0f + 0.4f * size);
  bell = exponential_of_negative<float>(-x * x);
  Vec<float> sum = all(terms[0]);
#pragma GCC unroll 9
  for (int i = 1; i < 10; i++) sum = sum * t + terms[i];
  erfc = sum * bell;
}
static inline void tails(Vec<double> x, Vec<double> &erfc, Vec<double> &bell) {
  for (int i = 0; i < LANES<double>; i++) erfc[i] = std::erfc(std::fabs(x[i])), bell[i] = std::exp(-x[i] * x[i]);
}

// act(x), and its derivative.
template <class W> static inline Vec<W> activate(Activation kind, Vec<W> x, Vec<W> &slope) {
  const Vec<W> none = {};
  if (kind == RELU) {
    slope = x > W(0) ? all(W(1)) : none;
    return x < W(0) ? none : x;  // what is not a number stays so
  }
  if (kind == GELU) {  // x Phi(x); Phi + x phi
    Vec<W> erfc, bell;
    tails(x * W(0.70710678118654752), erfc, bell);
    const Vec<W> half = erfc * W(0.5), below = x < W(0) ? half : W(1) - half;
    slope = below + x * bell * W(0.39894228040143268);
    return x * below;
  }
  // x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3): 0.5 x (1 + tanh u)
  const W scale = W(1.5957691216057308);
  const Vec<W> square = x * x, below = sigmoid<W>(scale * x * (W(1) + W(0.044715) * square));
  slope = below + x * below * (W(1) - below) * scale * (W(1) + W(0.134145) * square);
  return x * below;
}

// Of `count` numbers, of which whole vectors are read and written: a row's end is computed from a copy.
template <class W> static void activate_row(Activation kind, const W *from, Index count, W *to, W *slopes) {
  constexpr Index L = LANES<W>;
  Index i = 0;
  Vec<W> slope;
  for (; i + L <= count; i += L) {
    put(to + i, activate<W>(kind, load(from + i), slope));
    if (slopes) put(slopes + i, slope);
  }
  if (i == count) return;
  W rest[L] = {}, slopes_of_rest[L];
  std::copy_n(from + i, count - i, rest);
  put(rest, activate<W>(kind, load(rest), slope));
  put(slopes_of_rest, slope);
  std::copy_n(rest, count - i, to + i);
  if (slopes) std::copy_n(slopes_of_rest, count - i, slopes + i);
}
