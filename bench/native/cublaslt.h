// cuBLASLt as a rival, found at run time: its library, if there is one, is opened with dlopen, and
// what is needed of its interface is declared here (cublasLt.h of CUDA 12 and 13; handles are
// opaque, numbers are those of its enumerations).
#pragma once

#include <dlfcn.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/gemm_desc.h"

namespace mixprec::bench {

class CublasLt {
 public:
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;
  static constexpr int kMostHeuristics = 16;

  struct Algorithm {  // cublasLtMatmulHeuristicResult_t
    std::array<uint64_t, 8> algo;
    size_t workspace;
    int status;
    float waves;
    int reserved[4];
  };
  static_assert(sizeof(Algorithm) == 96);

  CublasLt() {
    const char* chosen = std::getenv("MIXPREC_CUBLASLT");
    for (const char* file : {chosen, "libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
      if (file != nullptr && library_ == nullptr) library_ = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    }
    if (library_ == nullptr) return;
    complete_ = find("cublasLtCreate", create_) && find("cublasLtGetVersion", version_) &&
                find("cublasLtMatmulDescCreate", desc_create_) &&
                find("cublasLtMatmulDescDestroy", desc_destroy_) &&
                find("cublasLtMatmulDescSetAttribute", desc_set_) &&
                find("cublasLtMatrixLayoutCreate", layout_create_) &&
                find("cublasLtMatrixLayoutDestroy", layout_destroy_) &&
                find("cublasLtMatrixLayoutSetAttribute", layout_set_) &&
                find("cublasLtMatmulPreferenceCreate", preference_create_) &&
                find("cublasLtMatmulPreferenceDestroy", preference_destroy_) &&
                find("cublasLtMatmulPreferenceSetAttribute", preference_set_) &&
                find("cublasLtMatmulAlgoGetHeuristic", heuristic_) &&
                find("cublasLtMatmul", matmul_) && create_(&handle_) == 0;
  }

  bool loaded() const { return complete_; }
  std::string name() const {
    return complete_ ? "cuBLASLt " + std::to_string(version_()) : "not installed";
  }

  // A product as cuBLASLt sees it. Row-major is its column-major with everything swapped: out^T =
  // rhs^T x lhs^T.
  class Product {
   public:
    Product(const CublasLt& library, const GemmDesc& desc) : library_(library), desc_(desc) {
      const bool lhs_dense = desc.lhs.col_stride == 1;
      const bool rhs_dense = desc.rhs.col_stride == 1;
      const int32_t op_a = rhs_dense ? 0 : 1;
      const int32_t op_b = lhs_dense ? 0 : 1;
      const int scale = desc.out_dtype == DType::kFloat64 ? 1
                        : desc.out_dtype == DType::kInt32 ? 10
                                                          : 0;
      good_ =
          library.desc_create_(&matmul_, compute_type(desc), scale) == 0 &&
          library.desc_set_(matmul_, 3, &op_a, sizeof op_a) == 0 &&
          library.desc_set_(matmul_, 4, &op_b, sizeof op_b) == 0 &&
          layout(&a_, desc.rhs.dtype, rhs_dense ? desc.N : desc.K, rhs_dense ? desc.K : desc.N,
                 rhs_dense ? desc.rhs.row_stride : desc.rhs.col_stride, desc.rhs.batch_stride) &&
          layout(&b_, desc.lhs.dtype, lhs_dense ? desc.K : desc.M, lhs_dense ? desc.M : desc.K,
                 lhs_dense ? desc.lhs.row_stride : desc.lhs.col_stride, desc.lhs.batch_stride) &&
          layout(&c_, desc.out_dtype, desc.N, desc.M, desc.out_row_stride, desc.out_batch_stride) &&
          find_algorithms();
    }
    Product(const Product&) = delete;
    Product& operator=(const Product&) = delete;
    ~Product() {
      if (matmul_ != nullptr) library_.desc_destroy_(matmul_);
      for (void* layout : {a_, b_, c_}) {
        if (layout != nullptr) library_.layout_destroy_(layout);
      }
    }

    // The library's proposals, best first; none where it can't make the product.
    const std::vector<Algorithm>& algorithms() const { return algorithms_; }

    bool run(const Algorithm& algorithm, const GemmDesc& desc, void* workspace,
             void* stream) const {
      const float one = 1, zero = 0;
      const double wide_one = 1, wide_zero = 0;
      const int32_t whole_one = 1, whole_zero = 0;
      const void* alpha = &one;
      const void* beta = &zero;
      if (desc.out_dtype == DType::kFloat64) {
        alpha = &wide_one;
        beta = &wide_zero;
      } else if (desc.out_dtype == DType::kInt32) {
        alpha = &whole_one;
        beta = &whole_zero;
      }
      return library_.matmul_(library_.handle_, matmul_, alpha, desc.rhs.data, a_, desc.lhs.data,
                              b_, beta, desc.out, c_, desc.out, c_, &algorithm, workspace,
                              kWorkspaceBytes, stream) == 0;
    }

   private:
    static int data_type(DType dtype) {
      switch (dtype) {
        case DType::kFloat64:
          return 1;
        case DType::kFloat16:
          return 2;
        case DType::kInt8:
          return 3;
        case DType::kInt32:
          return 10;
        case DType::kBFloat16:
          return 14;
        default:
          return 0;
      }
    }
    static int compute_type(const GemmDesc& desc) {
      if (desc.out_dtype == DType::kFloat64) return 70;
      if (desc.out_dtype == DType::kInt32) return 72;
      const bool is_tf32 =
          desc.lhs.dtype == DType::kFloat32 && desc.precision == MatmulPrecision::kHigh;
      return is_tf32 ? 77 : 68;
    }

    bool layout(void** made, DType dtype, int64_t rows, int64_t columns, int64_t leading,
                int64_t batch_stride) {
      if (library_.layout_create_(made, data_type(dtype), static_cast<uint64_t>(rows),
                                  static_cast<uint64_t>(columns), leading) != 0) {
        return false;
      }
      if (desc_.batch == 1) return true;
      const auto count = static_cast<int32_t>(desc_.batch);
      return library_.layout_set_(*made, 5, &count, sizeof count) == 0 &&
             library_.layout_set_(*made, 6, &batch_stride, sizeof batch_stride) == 0;
    }

    bool find_algorithms() {
      void* preference = nullptr;
      if (library_.preference_create_(&preference) != 0) return false;
      const size_t bytes = kWorkspaceBytes;
      library_.preference_set_(preference, 1, &bytes, sizeof bytes);
      algorithms_.resize(kMostHeuristics);
      int found = 0;
      library_.heuristic_(library_.handle_, matmul_, a_, b_, c_, c_, preference, kMostHeuristics,
                          algorithms_.data(), &found);
      library_.preference_destroy_(preference);
      algorithms_.resize(static_cast<size_t>(found));
      return found > 0;
    }

    const CublasLt& library_;
    const GemmDesc desc_;
    void* matmul_ = nullptr;
    void* a_ = nullptr;
    void* b_ = nullptr;
    void* c_ = nullptr;
    bool good_ = false;
    std::vector<Algorithm> algorithms_;
  };

 private:
  template <class Function>
  bool find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
    return function != nullptr;
  }

  void* library_ = nullptr;
  void* handle_ = nullptr;
  bool complete_ = false;
  int (*create_)(void**) = nullptr;
  size_t (*version_)() = nullptr;
  int (*desc_create_)(void**, int, int) = nullptr;
  int (*desc_destroy_)(void*) = nullptr;
  int (*desc_set_)(void*, int, const void*, size_t) = nullptr;
  int (*layout_create_)(void**, int, uint64_t, uint64_t, int64_t) = nullptr;
  int (*layout_destroy_)(void*) = nullptr;
  int (*layout_set_)(void*, int, const void*, size_t) = nullptr;
  int (*preference_create_)(void**) = nullptr;
  int (*preference_destroy_)(void*) = nullptr;
  int (*preference_set_)(void*, int, const void*, size_t) = nullptr;
  int (*heuristic_)(void*, void*, void*, void*, void*, void*, void*, int, Algorithm*,
                    int*) = nullptr;
  int (*matmul_)(void*, void*, const void*, const void*, void*, const void*, void*, const void*,
                 const void*, void*, void*, void*, const Algorithm*, void*, size_t,
                 void*) = nullptr;
};

}  // namespace mixprec::bench
