// A linear map of a few rows.
#include "few_rows.h"

#define FEW_ROWS(T)                                                                                               \
  void few_rows_##T(const T *x, const T *weight, const T *bias, Index rows, Index inputs, Index outputs, T *y,    \
                    int threads) {                                                                                \
    std::vector<Wide<T>> wider(rows *inputs);                                                                     \
    widened(x, rows * inputs, wider.data());                                                                      \
    map_rows<T>({weight, bias, inputs, outputs}, wider.data(), rows, y, threads);                                 \
  }

extern "C" {
FEW_ROWS(float)
FEW_ROWS(double)
FEW_ROWS(bfloat16)
}
