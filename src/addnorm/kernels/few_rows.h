// A linear map of a few rows: the weights are read once, and reading them is what takes the time.
#pragma once

#include <algorithm>

#include "native.h"

// Outputs computed together: as many streams of weights are read side by side, and the input serves them all. On a
// Xeon of 2.8 GHz eight read 11.5 to 14.5 GB/s, four 10.9 to 13.5, one 8.5 to 10.6; torch's product 9.8 to 10.8.
const Index BESIDE = 8;
const Index SUMS = 16;  // partial sums of each output: the floats of one vector register

template <class T>
struct Map {
  const T *weight, *bias;  // bias null: none
  Index inputs, outputs;
};

// The products of x with eight rows of weights. While a line is multiplied, the one at the same place of the next eight
// rows is asked for: rows are short, and the processor's own look-ahead starts anew at every page.
template <class T>
static inline void products(const T *weight, const Wide<T> *x, Index inputs, Wide<T> *results) {
  using W = Wide<T>;
  W partial[BESIDE][SUMS] = {};
  const Index whole = inputs - inputs % SUMS;
  for (Index i = 0; i < whole; i += SUMS) {
    for (Index k = 0; k < BESIDE; ++k) {
      const T *w = weight + k * inputs + i;
      __builtin_prefetch(w + BESIDE * inputs);
#pragma omp simd
      for (Index l = 0; l < SUMS; ++l) partial[k][l] += W(wide(w[l])) * x[i + l];
    }
  }
  for (Index k = 0; k < BESIDE; ++k) {
    W total = 0;
#pragma omp simd reduction(+ : total)
    for (Index l = 0; l < SUMS; ++l) total += partial[k][l];
    for (Index i = whole; i < inputs; ++i) total += W(wide(weight[k * inputs + i])) * x[i];
    results[k] = total;
  }
}

template <class T>
static inline Wide<T> product(const T *weight, const Wide<T> *x, Index inputs) {
  Wide<T> total = 0;
#pragma omp simd reduction(+ : total)
  for (Index i = 0; i < inputs; ++i) total += Wide<T>(wide(weight[i])) * x[i];
  return total;
}

// y = x W^T + b for each row.
template <class T, class U>
static inline void map_rows(Map<T> map, const Wide<T> *x, Index rows, U *y, int threads) {
  using W = Wide<T>;
  const Index inputs = map.inputs, blocks = (map.outputs + BESIDE - 1) / BESIDE;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (Index block = 0; block < blocks; ++block) {
    const Index first = block * BESIDE, count = std::min(BESIDE, map.outputs - first);
    const T *weight = map.weight + first * inputs;
    for (Index r = 0; r < rows; ++r) {
      W sums[BESIDE];
      if (count == BESIDE) {
        products(weight, x + r * inputs, inputs, sums);
      } else {
        for (Index k = 0; k < count; ++k) sums[k] = product(weight + k * inputs, x + r * inputs, inputs);
      }
      for (Index k = 0; k < count; ++k)
        store(y[r * map.outputs + first + k], sums[k] + (map.bias ? W(wide(map.bias[first + k])) : W(0)));
    }
  }
}

template <class T>
static inline void widened(const T *x, Index count, Wide<T> *to) {
  for (Index i = 0; i < count; ++i) to[i] = wide(x[i]);
}
