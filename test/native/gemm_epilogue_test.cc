// What follows a product on the CPU: every activation, forward and backward, with all that may
// stand around it, at every instruction set this processor has.
#include <cstdlib>
#include <filesystem>

#include "cpu/gemm/gemm.h"
#include "epilogue_testing.h"

using namespace mixprec;
using namespace mixprec::testing;

namespace {

void run(EpilogueProblem& problem) {
  std::array<char*, kBuffers> at{};
  for (int i = 0; i < kBuffers; ++i) at[static_cast<size_t>(i)] = problem.buffers[i].data();
  cpu::gemm(problem.describe(at));
}

}  // namespace

TEST("epilogues of tiles, regions, vectors and empty products") {
  const std::vector<std::array<int64_t, 5>> shapes = {
      {1, 1, 5, 7, 3},   {1, 1, 30, 70, 40}, {1, 1, 14, 32, 600}, {1, 1, 1, 300, 20},
      {1, 1, 90, 1, 33}, {2, 3, 4, 9, 8},    {1, 1, 6, 1300, 5},  {1, 3, 17, 20, 0}};
  for (const EpilogueCase& c : epilogue_cases(shapes)) {
    EpilogueProblem problem(c);
    run(problem);
    problem.expect_finished();
  }
}

TEST("an epilogue gives the same bits for any number of threads") {
  const int initial = cpu::num_threads();
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    EpilogueCase c;
    c.M = 700;
    c.N = 130;
    c.K = 70;
    c.in = c.out = dtype;
    c.activation = GemmActivation::kGelu;
    c.aux = Aux::kDerivative;
    c.column_sums = true;
    std::array<std::vector<char>, kBuffers> first;
    for (const int threads : {1, 2, 3, 7}) {
      cpu::set_num_threads(threads);
      EpilogueProblem problem(c);
      run(problem);
      if (threads == 1) first = problem.buffers;
      EXPECT(problem.buffers == first, "threads change " + c.name());
    }
  }
  cpu::set_num_threads(initial);
}

TEST("column sums of nothing are zeros, and integers have no epilogue") {
  float sums[2] = {5, 6};
  float out[2] = {};
  GemmDesc desc;
  desc.N = 2;
  desc.out = out;
  desc.out_row_stride = 2;
  desc.epilogue.column_sums = sums;
  cpu::gemm(desc);
  EXPECT_EQ(sums[0] + sums[1], 0.0f);
  int32_t whole[2] = {1, 1};
  desc.M = 1;
  desc.K = 1;
  desc.lhs = {whole, DType::kInt32, 1, 1, 0, 0};
  desc.rhs = {whole, DType::kInt32, 2, 1, 0, 0};
  desc.out_dtype = DType::kInt32;
  desc.epilogue.column_sums = nullptr;
  desc.epilogue.residual = whole;
  EXPECT_ERROR(ErrorCode::kInternal, "integers", cpu::gemm(desc));
}

// The level of a process is fixed: this executable runs itself at the lower ones.
TEST("every instruction set") {
  if (std::getenv("MIXPREC_CPU_ISA") != nullptr) {
    ++expectations;
    return;
  }
  const std::string self = "\"" + std::filesystem::read_symlink("/proc/self/exe").string() + "\"";
  for (int level = 0; level < static_cast<int>(cpu::isa()); ++level) {
    setenv("MIXPREC_CPU_ISA", cpu::isa_name(static_cast<cpu::Isa>(level)), 1);
    EXPECT_EQ(std::system(self.c_str()), 0);
  }
}
