// The sum of a stream and an update, and its LayerNorm or RMSNorm, in one pass; and the backward of both in one pass.
// One row a token; a row stays in the first cache from its first reading to its last writing.
// LayerNorm counts a row's numbers, and so the mean that is kept, from its first one: a row far from zero loses nothing,
// and one of equal numbers is exactly zero. The first lies within sqrt(width) deviations of the mean, so that
// subtracting it costs a row near zero nothing either.
// Products are rounded before they are added: then the fused step has the bits of its two halves, one after the other.
// compile with: -ffp-contract=off
#include "native.h"

namespace {

const Index BLOCK = 256;  // tokens whose weight gradients are added up before they join the total

template <class W>
struct Norm {
  const W *weight, *bias;  // bias null: none
  double eps, alpha;  // alpha: a factor of the stream in the sum
  Index tokens, width;
  bool centred;  // LayerNorm; not RMSNorm
};

// The next row is on its way while this one is computed: a row is too short for the processor to see the pattern.
template <class T>
static inline void fetch(const T *row, Index width, int write) {
  const char *bytes = reinterpret_cast<const char *>(row);
  for (Index i = 0; i < width * Index(sizeof(T)); i += 64)
    write ? __builtin_prefetch(bytes + i, 1, 3) : __builtin_prefetch(bytes + i, 0, 3);
}

template <class T, class U>
void forward(const T *stream, const U *update, Norm<Wide<T>> norm, T *sum, T *normed, Wide<T> *mean, Wide<T> *inverse,
             int threads) {
  using W = Wide<T>;
  const Index width = norm.width;
  const W alpha = norm.alpha;
#pragma omp parallel num_threads(threads)
  {
    std::vector<W> row(width);
    W *x = row.data();
#pragma omp for schedule(static)
    for (Index t = 0; t < norm.tokens; ++t) {
      const T *in = stream + t * width;
      W total = 0;
      if (update) {
        const U *more = update + t * width;
        T *out = sum + t * width;
#pragma omp simd
        for (Index i = 0; i < width; ++i) {
          store(out[i], alpha * W(wide(in[i])) + W(wide(more[i])));
          x[i] = wide(out[i]);  // what later readers of the sum will see
        }
      } else {
#pragma omp simd
        for (Index i = 0; i < width; ++i) x[i] = wide(in[i]);
      }
      // A loop of its own: with an update or without, the same numbers are added up in the same order.
      const W first = norm.centred ? x[0] : W(0);
#pragma omp simd reduction(+ : total)
      for (Index i = 0; i < width; ++i) total += x[i] -= first;
      const W centre = norm.centred ? total / W(width) : W(0);
      if (t + 1 < norm.tokens) {
        fetch(in + width, width, 0);
        if (update) fetch(update + (t + 1) * width, width, 0);
        if (update) fetch(sum + (t + 1) * width, width, 1);
        fetch(normed + (t + 1) * width, width, 1);
      }
      W squares = 0;
#pragma omp simd reduction(+ : squares)
      for (Index i = 0; i < width; ++i) squares += (x[i] - centre) * (x[i] - centre);
      const W scale = W(1) / std::sqrt(squares / W(width) + W(norm.eps));
      if (norm.centred) mean[t] = centre;
      inverse[t] = scale;
      T *out = normed + t * width;
      const W *weight = norm.weight, *bias = norm.bias;
      if (bias) {
#pragma omp simd
        for (Index i = 0; i < width; ++i) store(out[i], (x[i] - centre) * scale * weight[i] + bias[i]);
      } else {
#pragma omp simd
        for (Index i = 0; i < width; ++i) store(out[i], (x[i] - centre) * scale * weight[i]);
      }
    }
  }
}

// grad_sum: what came to the sum from elsewhere, null: nothing. partials: for each thread `width` sums for the weight,
// then `width` for the bias.
template <class T>
void backward(const T *sum, const T *grad_normed, const T *grad_sum, Norm<Wide<T>> norm, const Wide<T> *mean,
              const Wide<T> *inverse, T *grad, Wide<T> *partials, int threads) {
  using W = Wide<T>;
  const Index width = norm.width, share = (norm.tokens + threads - 1) / threads;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int thread = 0; thread < threads; ++thread) {
    const Index last = std::min(norm.tokens, (thread + 1) * share);
    W *total = partials + thread * 2 * width;
    std::vector<W> buffers(4 * width);
    W *scaled = buffers.data(), *unit = scaled + width, *of_weight = unit + width, *of_bias = of_weight + width;
    for (Index start = thread * share; start < last; start += BLOCK) {
      for (Index t = start; t < std::min(last, start + BLOCK); ++t) {
        const T *x = sum + t * width, *g = grad_normed + t * width;
        const W first = norm.centred ? W(wide(x[0])) : W(0), centre = norm.centred ? mean[t] : W(0), scale = inverse[t];
        const W *weight = norm.weight;
        W level = 0, along = 0;
#pragma omp simd reduction(+ : level, along)
        for (Index i = 0; i < width; ++i) {
          const W one = wide(g[i]), z = (W(wide(x[i])) - first - centre) * scale;
          of_weight[i] += one * z;
          of_bias[i] += one;
          unit[i] = z;
          scaled[i] = one * weight[i];
          level += scaled[i];
          along += scaled[i] * z;
        }
        if (t + 1 < last) {
          fetch(x + width, width, 0);
          fetch(g + width, width, 0);
          if (grad_sum) fetch(grad_sum + (t + 1) * width, width, 0);
          fetch(grad + (t + 1) * width, width, 1);
        }
        level = norm.centred ? level / W(width) : W(0);
        along /= W(width);
        T *out = grad + t * width;
        if (grad_sum) {
          const T *other = grad_sum + t * width;
#pragma omp simd
          for (Index i = 0; i < width; ++i)
            store(out[i], (scaled[i] - level - unit[i] * along) * scale + W(wide(other[i])));
        } else {
#pragma omp simd
          for (Index i = 0; i < width; ++i) store(out[i], (scaled[i] - level - unit[i] * along) * scale);
        }
      }
      for (Index i = 0; i < 2 * width; ++i) {
        total[i] += of_weight[i];
        of_weight[i] = 0;  // of_bias follows it in memory
      }
    }
  }
}

}  // namespace

#define FORWARD(NAME, T, U)                                                                                          \
  void add_norm_forward_##NAME(const T *stream, const U *update, const Wide<T> *weight, const Wide<T> *bias,          \
                               double eps, double alpha, Index tokens, Index width, int centred, T *sum, T *normed,   \
                               Wide<T> *mean, Wide<T> *inverse, int threads) {                                                      \
    forward<T, U>(stream, update, {weight, bias, eps, alpha, tokens, width, centred != 0}, sum, normed, mean, inverse,      \
                  threads);                                                                                          \
  }
#define BACKWARD(T)                                                                                                   \
  void add_norm_backward_##T(const T *sum, const T *grad_normed, const T *grad_sum, const Wide<T> *weight,           \
                             Index tokens, Index width, int centred, const Wide<T> *mean, const Wide<T> *inverse,    \
                             T *grad, Wide<T> *partials, int threads) {                                              \
    backward<T>(sum, grad_normed, grad_sum, {weight, nullptr, 0, 1, tokens, width, centred != 0}, mean, inverse, grad,  \
                partials, threads);                                                                                  \
  }

extern "C" {
FORWARD(float, float, float)
FORWARD(double, double, double)
FORWARD(bfloat16, bfloat16, bfloat16)
FORWARD(float_bfloat16, float, bfloat16)  // under autocast the stream is float, the update is not
BACKWARD(float)
BACKWARD(double)
BACKWARD(bfloat16)
}
