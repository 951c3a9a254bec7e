// Every kernel that the choice may fall on makes the product it is offered for: each tile of each
// family, also in shares of K and the other way round, with an epilogue.
#include <set>

#include "cuda/gemm/choose.h"
#include "cuda/gemm/families.h"
#include "cuda/gemm/gemm.h"
#include "device_problem.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::testing;

namespace {

EpilogueCase problem_of(int64_t M, int64_t N, int64_t K, DType dtype) {
  EpilogueCase c;
  c.M = M;
  c.N = N;
  c.K = K;
  c.in = c.out = dtype;
  c.bias = true;
  if (dtype == DType::kInt8) {
    c.out = DType::kInt32;
    c.bias = false;
  } else if (is_floating(dtype)) {
    c.activation = GemmActivation::kGelu;
    c.residual = true;
  }
  return c;
}

void run_all(const EpilogueCase& c, std::set<GemmFamily>& seen) {
  const api::DeviceProperties& properties = device().properties();
  std::vector<GemmTile> tiles;
  EpilogueProblem first(c);
  on_device(first, [&](const GemmDesc& desc) { tiles = gemm_offer(desc, properties).tiles; });
  for (const GemmTile& tile : tiles) {
    for (const int32_t splits : {1, 3}) {
      for (const bool turned : {false, true}) {
        const bool fits = splits == 1 || (splits <= tile.max_splits && c.K >= splits * tile.depth);
        if (!fits || (turned && !tile.can_swap)) continue;
        EpilogueProblem problem(c);
        on_device(problem, [&](const GemmDesc& desc) {
          run_gemm(device(), desc, {tile.family, tile.variant, splits, turned});
        });
        const int64_t before = failures;
        problem.expect_finished();
        if (failures > before) {
          std::printf("by %s %d, %d splits, swapped %d\n", family_name(tile.family), tile.variant,
                      splits, turned);
        }
        seen.insert(tile.family);
      }
    }
  }
}

}  // namespace

DEVICE_TEST(80, "all kernels that are offered") {
  std::set<GemmFamily> seen;
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16, DType::kFloat32, DType::kFloat64,
                            DType::kInt8, DType::kInt32}) {
    run_all(problem_of(20, 72, 200, dtype), seen);
    run_all(problem_of(5, 33, 97, dtype), seen);
  }
  run_all(problem_of(70, 1, 260, DType::kBFloat16), seen);
  EXPECT(seen.count(GemmFamily::kSimt) + seen.count(GemmFamily::kGemv) +
                 seen.count(GemmFamily::kMmaSm80) ==
             3,
         "families of every device");
  EXPECT_EQ(seen.count(GemmFamily::kWgmmaSm90), cuda::testing::capability() == 90 ? 1U : 0U);
}

DEVICE_TEST(80, "the choice itself, remembered") {
  for (const auto& [M, N, K] : std::vector<std::array<int64_t, 3>>{
           {1, 64, 300}, {16, 40, 64}, {130, 200, 64}, {64, 64, 1024}, {3, 3, 0}, {7, 1, 1}}) {
    for (const DType dtype : {DType::kBFloat16, DType::kFloat32, DType::kInt64}) {
      const EpilogueCase c = problem_of(M, N, K, dtype);
      std::array<std::vector<char>, kBuffers> first;
      for (int turn = 0; turn < 2; ++turn) {
        EpilogueProblem problem(c);
        on_device(problem, [&](const GemmDesc& desc) {
          gemm(device(), desc);
          EXPECT(remembered_gemm(device(), with_batch_as_rows(desc)).has_value(), c.name());
        });
        problem.expect_finished();
        if (turn == 0) first = problem.buffers;
        EXPECT(problem.buffers == first, "another result the second time: " + c.name());
      }
    }
  }
}
