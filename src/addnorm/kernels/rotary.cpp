// Pairs (x_i, x_{i + d/2}) of a head turned by an angle, in one pass; any strides but the last.
#include "native.h"

namespace {

struct Strides {
  Index batch, head, token;
};

template <class T>
void turn(const T *x, const Wide<T> *cosines, const Wide<T> *sines, Index batch, Index heads, Index tokens, Index half,
          Strides in, Index angles_of_row, double sign, T *y, Strides out, int threads) {
  using W = Wide<T>;
  const W direction = W(sign);
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
  for (Index b = 0; b < batch; ++b)
    for (Index t = 0; t < tokens; ++t) {
      const W *cosine = cosines + b * angles_of_row + t * half, *sine = sines + b * angles_of_row + t * half;
      for (Index h = 0; h < heads; ++h) {
        const T *from = x + b * in.batch + h * in.head + t * in.token;
        T *to = y + b * out.batch + h * out.head + t * out.token;
#pragma omp simd
        for (Index i = 0; i < half; ++i) {
          const W first = wide(from[i]), second = wide(from[i + half]), s = direction * sine[i];
          store(to[i], first * cosine[i] - second * s);
          store(to[i + half], second * cosine[i] + first * s);
        }
      }
    }
}

}  // namespace

#define TURN(T)                                                                                                       \
  void turn_##T(const T *x, const Wide<T> *cosines, const Wide<T> *sines, const Index *sizes, double sign, T *y,      \
                int threads) {                                                                                        \
    turn<T>(x, cosines, sines, sizes[0], sizes[1], sizes[2], sizes[3], {sizes[4], sizes[5], sizes[6]}, sizes[10],     \
            sign, y, {sizes[7], sizes[8], sizes[9]}, threads);                                                        \
  }

extern "C" {
TURN(float)
TURN(double)
TURN(bfloat16)
}
