// Vectors of numbers for the mHC kernel: loads, stores, sums over lanes, exp.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <type_traits>

#include "native.h"

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
constexpr int WIDE_TILE = 8;
constexpr int TALL_TILE = 6;
#else
constexpr int VECTOR_BYTES = 32;
constexpr int WIDE_TILE = 4;
constexpr int TALL_TILE = 3;
#endif

constexpr int BLOCK = 16;  // tokens that are worked on together
constexpr int ROWS = 6;    // rows of phi in a tile; their number is padded to a multiple
constexpr int PAIR = 2;    // vectors of a stream in a chunk
constexpr int MOST_STREAMS = 16;
constexpr int MOST_STEPS = 8;

template <class W> struct VectorOf;
template <> struct VectorOf<float> {
  typedef float type __attribute__((vector_size(VECTOR_BYTES)));
  typedef int32_t bits __attribute__((vector_size(VECTOR_BYTES)));
  typedef uint32_t raw __attribute__((vector_size(VECTOR_BYTES)));
  typedef uint16_t half __attribute__((vector_size(VECTOR_BYTES / 2)));
};
template <> struct VectorOf<double> {
  typedef double type __attribute__((vector_size(VECTOR_BYTES)));
  typedef int64_t bits __attribute__((vector_size(VECTOR_BYTES)));
};
template <class W> using Vec = typename VectorOf<W>::type;
template <class W> constexpr int LANES = VECTOR_BYTES / int(sizeof(W));
template <class W> constexpr int CHUNK = PAIR * LANES<W>;

static inline Index padded(Index d, Index to) { return (d + to - 1) / to * to; }

template <class W> static inline Vec<W> load(const W *from) {
  Vec<W> x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
static inline Vec<float> load(const bfloat16 *from) {
  VectorOf<float>::half half;
  std::memcpy(&half, from, sizeof half);
  return (Vec<float>)(__builtin_convertvector(half, VectorOf<float>::raw) << 16);
}
template <class W> static inline void put(W *to, Vec<W> x) { std::memcpy(to, &x, sizeof x); }
static inline void put(bfloat16 *to, Vec<float> x) {
  auto bits = (VectorOf<float>::raw)x;
  auto rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  auto number = (VectorOf<float>::raw)((bits & 0x7fffffffu) <= 0x7f800000u);
  auto half = __builtin_convertvector((rounded & number) | (((bits >> 16) | 0x40u) & ~number), VectorOf<float>::half);
  std::memcpy(to, &half, sizeof half);
}
template <class W> static inline Vec<W> all(W x) { return x - Vec<W>{}; }

// A number as it would come back from memory in precision T.
template <class T, class V> static inline V rounded(V x) {
  if constexpr (std::is_same<T, bfloat16>::value) {
    bfloat16 narrow[LANES<float>];
    put(narrow, x);
    return load(narrow);
  }
  return x;
}

// Rows of `d` numbers as rows of `width`: in place where both are the same, else through a padded copy.
template <class T> struct Padded {
  Index d, width;
  T *room;

  const T *in(const T *from, Index rows) const {
    if (d == width) return from;
    std::memset(room, 0, rows * width * sizeof(T));
    for (Index i = 0; i < rows; i++) std::copy_n(from + i * d, d, room + i * width);
    return room;
  }
  T *out(T *to) const { return d == width ? to : room; }
  void done(T *to, Index rows) const {
    for (Index i = 0; d != width && i < rows; i++) std::copy_n(room + i * width, d, to + i * d);
  }
};

// Neighbours added: the sums of pairs of `a`, then those of `b`.
template <int L, class V> static inline V add_pairs(V a, V b) {
  if constexpr (L == 16)
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  else if constexpr (L == 8)
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
  else
    return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
}

template <class W> static inline W sum(Vec<W> x) {
  for (int left = LANES<W> / 2; left >= 1; left /= 2) x = add_pairs<LANES<W>>(x, x);
  return x[0];
}

// The sum of each of LANES vectors, one a lane.
template <class W> static inline Vec<W> sums(const Vec<W> *from) {
  constexpr int L = LANES<W>;
  Vec<W> x[L];
  for (int i = 0; i < L; i++) x[i] = from[i];
#pragma GCC unroll 4
  for (int left = L / 2; left >= 1; left /= 2)
    for (int i = 0; i < left; i++) x[i] = add_pairs<L>(x[2 * i], x[2 * i + 1]);
  return x[0];
}

// Without overflow: what is too large or too small becomes the largest or smallest power of two.
template <class W> static inline Vec<W> exponential(Vec<W> x) {
  using Bits = typename VectorOf<W>::bits;
  constexpr bool single = std::is_same<W, float>::value;
  constexpr int terms = single ? 7 : 13, mantissa = single ? 23 : 52, bias = single ? 127 : 1023;
  const W high = single ? W(88) : W(709), low = single ? W(-87.33654) : W(-708.39641);
  x = x > high ? all<W>(high) : x;
  x = x < low ? all<W>(low) : x;
  const W magic = single ? W(12582912) : W(6755399441055744);  // 1.5 * 2^mantissa: adding it rounds to whole numbers
  Vec<W> shifted = x * W(1.4426950408889634) + magic, whole = shifted - magic;
  Vec<W> rest = x - whole * (single ? W(0.693359375) : W(0.693147180369123816490));
  rest = rest - whole * (single ? W(-2.12194440e-4) : W(1.90821492927058770002e-10));
  Vec<W> result = all<W>(1);
  for (int i = terms; i >= 1; i--) result = result * rest * W(1.0 / i) + W(1);
  Bits power = (Bits)shifted - (Bits)all<W>(magic);
  return result * (Vec<W>)((power + bias) << mantissa);
}
// Of what is at most about zero, in half as many operations; in float to 1e-7 of its value.
template <class W> static inline Vec<W> exponential_of_negative(Vec<W> x) {
  if constexpr (!std::is_same<W, float>::value) return exponential<W>(x);
  using Bits = typename VectorOf<W>::bits;
  const W magic = W(12582912), low = W(-87.33654);
  x = x < low ? all<W>(low) : x;
  const Vec<W> shifted = x * W(1.4426950408889634) + magic, whole = shifted - magic;
  const Vec<W> rest = x - whole * W(0.693359375) - whole * W(-2.12194440e-4);
  Vec<W> result = all<W>(W(1.0 / 5040));
  result = result * rest + W(1.0 / 720);
  result = result * rest + W(1.0 / 120);
  result = result * rest + W(1.0 / 24);
  result = result * rest + W(1.0 / 6);
  result = result * rest + W(0.5);
  result = result * rest + W(1);
  result = result * rest + W(1);
  return result * (Vec<W>)(((Bits)shifted - (Bits)all<W>(magic) + 127) << 23);
}
template <class W> static inline Vec<W> sigmoid(Vec<W> x) { return W(1) / (W(1) + exponential<W>(-x)); }

// Memory that a thread keeps from call to call: fresh pages cost more than the work of a small call.
template <class W> static W *kept(Index numbers, int which) {
  struct Kept {
    void *at[4] = {};
    size_t bytes[4] = {};
    ~Kept() { for (void *one : at) std::free(one); }
  };
  static thread_local Kept own;
  size_t wanted = (size_t(numbers) * sizeof(W) + 4095) / 4096 * 4096;
  if (own.bytes[which] < wanted) {
    std::free(own.at[which]);
    own.at[which] = std::aligned_alloc(4096, wanted);
    own.bytes[which] = wanted;
  }
  return static_cast<W *>(own.at[which]);
}
