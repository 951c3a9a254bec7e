// What follows a product on the device: through the whole of gemm(), and where the sums of several
// shares of K are added up first.
#include "cuda/cuda_backend.h"
#include "cuda/gemm/families.h"
#include "cuda/gemm/finish.h"
#include "cuda/gemm/gemm.h"
#include "device_testing.h"
#include "epilogue_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::testing;

namespace {

CudaBackend& device() { return cuda::backend(0); }

// A copy of memory on the device.
struct Copy {
  explicit Copy(const std::vector<char>& bytes)
      : size(bytes.size()), data(static_cast<char*>(device().allocate(size))) {
    if (size > 0) device().copy_from_host(data, bytes.data(), size);
  }
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;
  ~Copy() { device().deallocate(data, size); }
  void read(std::vector<char>& bytes) const {
    if (size > 0) device().copy_to_host(bytes.data(), data, size);
  }
  size_t size;
  char* data;
};

// Calls body with the description of a problem that lies on the device, and reads what it wrote.
template <class Body>
void on_device(EpilogueProblem& problem, const Body& body) {
  std::vector<std::unique_ptr<Copy>> copies;
  std::array<char*, kBuffers> at{};
  for (size_t i = 0; i < kBuffers; ++i) {
    copies.push_back(std::make_unique<Copy>(problem.buffers[i]));
    at[i] = copies.back()->data;
  }
  body(problem.describe(at));
  for (size_t i = 0; i < kBuffers; ++i) copies[i]->read(problem.buffers[i]);
}

}  // namespace

DEVICE_TEST(80, "epilogues of products") {
  const std::vector<std::array<int64_t, 5>> shapes = {
      {1, 1, 5, 7, 3}, {1, 1, 20, 24, 16}, {1, 1, 1, 33, 9}, {1, 1, 30, 1, 5},
      {2, 3, 4, 9, 8}, {1, 3, 7, 12, 0},   {1, 1, 3, 64, 4}};
  for (const EpilogueCase& c : epilogue_cases(shapes)) {
    EpilogueProblem problem(c);
    on_device(problem, [](const GemmDesc& desc) { gemm(device(), desc); });
    problem.expect_finished();
  }
}

// The shares of K are computed here, and added up on the device.
template <class Sum>
void check_shares(EpilogueCase c, int splits) {
  EpilogueProblem problem(c);
  std::vector<char> partials(sums_bytes(problem.describe({}), splits));
  const int64_t rows = c.outer * c.batch * c.M;
  auto* sums = reinterpret_cast<Sum*>(partials.data());
  for (int split = 0; split < splits; ++split) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < c.N; ++col) {
        double magnitude = 0;
        *sums++ = static_cast<Sum>(problem.product(row, col, c.K * split / splits,
                                                   c.K * (split + 1) / splits, &magnitude));
      }
    }
  }
  on_device(problem, [&](const GemmDesc& desc) {
    const Copy copy(partials);
    finish_sums(device(), desc, copy.data, splits);
    if (c.column_sums) sum_columns(device(), desc);
  });
  problem.expect_finished();
}

DEVICE_TEST(80, "shares of K become one result") {
  for (const auto& shape : std::vector<std::array<int64_t, 5>>{
           {1, 1, 6, 8, 12}, {1, 2, 3, 5, 9}, {2, 2, 2, 20, 16}, {1, 1, 1, 1, 6}}) {
    for (const int splits : {1, 2, 5}) {
      for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64, DType::kInt64,
                                DType::kInt32, DType::kInt8}) {
        EpilogueCase c;
        c.outer = shape[0];
        c.batch = shape[1];
        c.M = shape[2];
        c.N = shape[3];
        c.K = shape[4];
        c.in = c.out = dtype;
        c.padding = shape[4] == 16 ? 4 : 0;
        c.beta = splits == 2 ? 2 : 0;
        c.bias = true;
        if (is_floating(dtype)) {
          c.activation = GemmActivation::kGelu;
          c.aux = Aux::kKept;
          c.residual = true;
          c.column_sums = true;
          if (dtype == DType::kFloat64) {
            check_shares<double>(c, splits);
          } else {
            check_shares<float>(c, splits);
          }
        } else if (dtype == DType::kInt8) {
          c.out = DType::kInt32;
          check_shares<int32_t>(c, splits);
        } else {
          check_shares<int64_t>(c, splits);
        }
      }
    }
  }
}

DEVICE_TEST(80, "a product made the other way round") {
  for (const DType dtype : {DType::kBFloat16, DType::kFloat64, DType::kInt32}) {
    EpilogueCase c;
    c.outer = 2;
    c.batch = 3;
    c.M = 5;
    c.N = 18;
    c.K = 7;
    c.in = c.out = dtype;
    c.padding = 2;
    c.bias = true;
    c.alpha = 2;
    if (is_floating(dtype)) c.activation = GemmActivation::kSilu;
    EpilogueProblem problem(c);
    on_device(problem, [](const GemmDesc& desc) {
      run_gemm(device(), desc, {GemmFamily::kSimt, 0, 1, true});
    });
    problem.expect_finished();
  }
}

DEVICE_TEST(80, "column sums of no rows are zeros") {
  EpilogueCase c;
  c.M = 0;
  c.N = 5;
  c.column_sums = true;
  EpilogueProblem problem(c);
  on_device(problem, [](const GemmDesc& desc) { gemm(device(), desc); });
  problem.expect_finished();
}
