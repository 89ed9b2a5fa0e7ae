// Sinkhorn-Knopp on the matrices of as many tokens as a vector has lanes, forward and backward.
#pragma once

#include <limits>

#include "mhc_vector.h"

// N is the number of streams where the compiler may know it, else 0 and `streams` counts.
template <class W, int N> struct Sinkhorn {
  Index streams, iterations;

  Index n() const { return N ? N : streams; }
  Index sums_wanted() const { return 2 * iterations * n(); }

  // One half step; half 0, 2, ... divides columns, the others rows. The sums are kept if a place is given.
  void half_step(Vec<W> *m, Index half, Vec<W> *sums) const {
    const Index along = half % 2 ? 1 : n(), across = half % 2 ? n() : 1;
    for (Index i = 0; i < n(); i++) {
      Vec<W> total = m[i * across];
      for (Index j = 1; j < n(); j++) total += m[i * across + j * along];
      const Vec<W> inverse = W(1) / total;
      for (Index j = 0; j < n(); j++) m[i * across + j * along] *= inverse;
      if (sums) sums[half * n() + i] = total;
    }
  }

  // From logits to a doubly stochastic matrix, in place; `sums`, if any, for `backward`.
  void forward(Vec<W> *m, Vec<W> *sums) const {
    const Vec<W> tiny = all<W>(std::numeric_limits<W>::min());
    for (Index j = 0; j < n(); j++) {
      Vec<W> largest = m[j], total = {};
      for (Index i = 1; i < n(); i++) largest = m[i * n() + j] > largest ? m[i * n() + j] : largest;
      for (Index i = 0; i < n(); i++) total += m[i * n() + j] = exponential<W>(m[i * n() + j] - largest);
      const Vec<W> inverse = W(1) / total;
      for (Index i = 0; i < n(); i++) {
        Vec<W> entry = m[i * n() + j] * inverse;
        m[i * n() + j] = entry > tiny ? entry : tiny;
      }
    }
    for (Index half = 1; half < 2 * iterations; half++) half_step(m, half, sums);
  }

  // The gradient of the logits in place of that of the matrix. With g = dL/dlog M a step M' = M / s gives
  // g <- g - M' sum(g), and M = M' s.
  void backward(Vec<W> *m, const Vec<W> *sums, Vec<W> *grad) const {
    for (Index i = 0; i < n() * n(); i++) grad[i] *= m[i];
    for (Index half = 2 * iterations - 1; half >= 0; half--) {
      const Index along = half % 2 ? 1 : n(), across = half % 2 ? n() : 1;
      for (Index i = 0; i < n(); i++) {
        Vec<W> total = grad[i * across];
        for (Index j = 1; j < n(); j++) total += grad[i * across + j * along];
        for (Index j = 0; j < n(); j++) {
          const Index at = i * across + j * along;
          grad[at] -= m[at] * total;
          if (half) m[at] *= sums[half * n() + i];
        }
      }
    }
  }
};
