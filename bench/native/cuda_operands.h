// The operands of a benchmark of products on a GPU: normal random numbers, in as many sets as are
// used in turn, and the error of a result against float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "core/gemm_desc.h"
#include "cuda/cuda_backend.h"
#include "cuda/runtime/error.h"
#include "cuda/tensors.h"

namespace mixprec::bench {

using namespace mixprec::cuda;

// What is multiplied, and what the relative error (Frobenius, against float64) may be.
struct Kind {
  const char* name;
  DType in;
  DType out;
  MatmulPrecision precision;
  double bound;
  double peak_tflops;  // of an H200 or H100 SXM, dense
};

struct Shape {
  const char* group;
  int64_t M, N, K;
  int64_t batch = 1;
};

inline size_t bytes_of(int64_t count, DType dtype) {
  return static_cast<size_t>(count) * item_size(dtype);
}

// Normal random numbers of a dtype. Operands that are larger repeat them; their number is prime, so
// that no two rows or columns are alike.
inline std::vector<char> normal_numbers(int64_t count, DType dtype, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<char> memory(bytes_of(count, dtype));
  for (int64_t i = 0; i < count; ++i) {
    const float value = normal(engine);
    char* const p = memory.data() + bytes_of(i, dtype);
    switch (dtype) {
      case DType::kFloat64:
        *reinterpret_cast<double*>(p) = value + value * 0x1p-30;
        break;
      case DType::kFloat16:
        *reinterpret_cast<Float16*>(p) = to_float16(value);
        break;
      case DType::kBFloat16:
        *reinterpret_cast<BFloat16*>(p) = to_bfloat16(value);
        break;
      case DType::kInt8:
        *reinterpret_cast<int8_t*>(p) =
            static_cast<int8_t>(std::clamp(value * 40.0f, -127.0f, 127.0f));
        break;
      default:
        *reinterpret_cast<float*>(p) = value;
    }
  }
  return memory;
}

constexpr int64_t kNumbers = 1048573;  // a prime

// The numbers of both operands, by dtype.
class Numbers {
 public:
  const std::vector<char>& of(DType dtype, int operand) {
    std::vector<char>& found = made_[static_cast<size_t>(dtype)][operand];
    if (found.empty())
      found = normal_numbers(kNumbers, dtype, 20251 + static_cast<uint64_t>(operand));
    return found;
  }

 private:
  std::vector<char> made_[kDTypeCount][2];
};

inline double number_at(const std::vector<char>& memory, DType dtype, int64_t i) {
  const char* const p = memory.data() + bytes_of(i, dtype);
  switch (dtype) {
    case DType::kFloat64:
      return *reinterpret_cast<const double*>(p);
    case DType::kFloat16:
      return to_float(*reinterpret_cast<const Float16*>(p));
    case DType::kBFloat16:
      return to_float(*reinterpret_cast<const BFloat16*>(p));
    case DType::kInt8:
      return *reinterpret_cast<const int8_t*>(p);
    case DType::kInt32:
      return *reinterpret_cast<const int32_t*>(p);
    default:
      return *reinterpret_cast<const float*>(p);
  }
}

// A product with as many sets of operands as are used in turn.
class Operands {
 public:
  Operands(CudaBackend& backend, Numbers& numbers, const Kind& kind, const Shape& shape,
           bool lhs_transposed, bool rhs_transposed)
      : backend_(backend),
        kind_(kind),
        shape_(shape),
        lhs_(numbers.of(kind.in, 0)),
        rhs_(numbers.of(kind.in, 1)) {
    const auto [group, M, N, K, batch] = shape;
    const size_t sizes[3] = {bytes_of(batch * M * K, kind.in), bytes_of(batch * K * N, kind.in),
                             bytes_of(batch * M * N, kind.out)};
    const size_t set_bytes = sizes[0] + sizes[1] + sizes[2];
    const size_t sets = std::min<size_t>(3 * backend.properties().l2_bytes / set_bytes + 1, 512);
    for (size_t i = 0; i < sets; ++i) {
      for (int part = 0; part < 3; ++part) {
        memory_.push_back(std::make_unique<Scratch>(backend, sizes[part]));
        if (part == 2) continue;
        void* const to = memory_.back()->data();
        // The same numbers in every set, at other addresses.
        if (i == 0) {
          const std::vector<char>& values = numbers.of(kind.in, part);
          for (size_t at = 0; at < sizes[part]; at += values.size()) {
            backend.copy_from_host(static_cast<char*>(to) + at, values.data(),
                                   std::min(values.size(), sizes[part] - at));
          }
        } else {
          require(api::copy_on_device(to, memory_[static_cast<size_t>(part)]->data(), sizes[part],
                                      backend.stream()),
                  "copying operands");
        }
      }
      GemmDesc desc;
      desc.M = M;
      desc.N = N;
      desc.K = K;
      desc.batch = batch;
      desc.lhs = {memory_[3 * i]->data(), kind.in, lhs_transposed ? 1 : K,
                  lhs_transposed ? M : 1, M * K,   0};
      desc.rhs = {memory_[3 * i + 1]->data(), kind.in, rhs_transposed ? 1 : N,
                  rhs_transposed ? K : 1,     K * N,   0};
      desc.out = memory_[3 * i + 2]->data();
      desc.out_dtype = kind.out;
      desc.out_row_stride = N;
      desc.out_batch_stride = M * N;
      desc.precision = kind.precision;
      descs_.push_back(desc);
    }
  }

  const std::vector<GemmDesc>& descs() const { return descs_; }
  double operations() const {
    return 2.0 * static_cast<double>(shape_.batch) * static_cast<double>(shape_.M) *
           static_cast<double>(shape_.N) * static_cast<double>(shape_.K);
  }
  double bytes() const {
    const auto [group, M, N, K, batch] = shape_;
    return static_cast<double>(bytes_of(batch * (M * K + K * N), kind_.in) +
                               bytes_of(batch * M * N, kind_.out));
  }

  // The relative error of what lies in the first set's out, on sampled rows and columns.
  double error() const {
    const auto [group, M, N, K, batch] = shape_;
    std::vector<char> out(bytes_of(batch * M * N, kind_.out));
    backend_.copy_to_host(out.data(), descs_[0].out, out.size());
    std::mt19937_64 engine(7);
    double squares = 0;
    double wrong = 0;
    const GemmDesc& desc = descs_[0];
    const int samples = static_cast<int>(std::min<int64_t>(batch * M * N, 4096));
    for (int i = 0; i < samples; ++i) {
      const auto item = static_cast<int64_t>(engine() % static_cast<uint64_t>(batch));
      const auto row = static_cast<int64_t>(engine() % static_cast<uint64_t>(M));
      const auto column = static_cast<int64_t>(engine() % static_cast<uint64_t>(N));
      double sum = 0;
      for (int64_t k = 0; k < K; ++k) {
        const int64_t left = item * M * K + row * desc.lhs.row_stride + k * desc.lhs.col_stride;
        const int64_t right = item * K * N + k * desc.rhs.row_stride + column * desc.rhs.col_stride;
        sum += number_at(lhs_, kind_.in, left % kNumbers) *
               number_at(rhs_, kind_.in, right % kNumbers);
      }
      const double got = number_at(out, kind_.out, item * M * N + row * N + column);
      squares += sum * sum;
      // NaN counts as all wrong.
      wrong += std::isnan(got) ? INFINITY : (got - sum) * (got - sum);
    }
    return std::sqrt(wrong / squares);
  }

 private:
  CudaBackend& backend_;
  const Kind kind_;
  const Shape shape_;
  const std::vector<char>& lhs_;
  const std::vector<char>& rhs_;
  std::vector<std::unique_ptr<Scratch>> memory_;
  std::vector<GemmDesc> descs_;
};

}  // namespace mixprec::bench
