// What the C++ kernels share: bfloat16, vectors of floats, threads.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

using Index = int64_t;

// The upper half of a float; arithmetic is done in float.
struct bfloat16 {
  uint16_t bits;
};

static inline float wide(bfloat16 x) {
  uint32_t bits = uint32_t(x.bits) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}
static inline float wide(float x) { return x; }
static inline double wide(double x) { return x; }

static inline void store(float &to, float x) { to = x; }
static inline void store(double &to, double x) { to = x; }
// Rounded to nearest, ties to even, as torch rounds; what is not a number stays so.
static inline void store(bfloat16 &to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to.bits = (bits & 0x7fffffffu) > 0x7f800000u ? uint16_t((bits >> 16) | 0x40u) : uint16_t(rounded);
}

// The precision of sums: float for bfloat16 and float, double for double.
template <class T> struct WideOf { using type = float; };
template <> struct WideOf<double> { using type = double; };
template <class T> using Wide = typename WideOf<T>::type;
