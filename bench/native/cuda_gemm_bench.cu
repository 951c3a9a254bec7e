// Matrix products on a GPU next to cuBLASLt's, on one row each: TFLOP/s or GB/s by CUDA events,
// through the same entry that the addon uses. Operands are normal random numbers (zeros take less
// power, and so run faster), in more copies than three times the L2 cache holds, used in turn. The
// contenders take turns within a repeat, and a ratio is the median of those of repeats. cuBLASLt is
// there twice: with its first proposal, as PyTorch uses it, and with the best of 16. Before it is
// timed, every product is compared with float64 on sampled elements; an error beyond its bound
// counts as a failure.
// Usage: cuda_gemm_bench [--json] [--check] [--quick] [--repeats N] [PART...]
//   PART: float16 bfloat16 float32-high float32-highest float64 int8 gemv; --check only compares,
//   on small shapes, which the emulator can do, too.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cublaslt.h"
#include "cuda/gemm/gemm.h"
#include "cuda_operands.h"

namespace {

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::bench;

struct Options {
  bool json = false;
  bool check_only = false;
  bool quick = false;  // about a minute: short samples, and not all layouts
  int repeats = 7;
  std::vector<std::string> parts;

  bool wants(const std::string& part) const {
    return parts.empty() || std::find(parts.begin(), parts.end(), part) != parts.end();
  }
};

constexpr Kind kKinds[] = {
    {"bfloat16", DType::kBFloat16, DType::kBFloat16, MatmulPrecision::kHighest, 3e-3, 989.5},
    {"float16", DType::kFloat16, DType::kFloat16, MatmulPrecision::kHighest, 4e-4, 989.5},
    {"float32-high", DType::kFloat32, DType::kFloat32, MatmulPrecision::kHigh, 5e-4, 494.7},
    {"float32-highest", DType::kFloat32, DType::kFloat32, MatmulPrecision::kHighest, 2e-6, 66.9},
    {"float64", DType::kFloat64, DType::kFloat64, MatmulPrecision::kHighest, 1e-14, 66.9},
    {"int8", DType::kInt8, DType::kInt32, MatmulPrecision::kHighest, 0, 1979},
};

// DistilBERT: 12 texts of 512 tokens, forward and backward; LLaMA-7B: 2048 tokens; decode: one
// to 16.
constexpr Shape kShapes[] = {
    {"square", 512, 512, 512},         {"square", 1024, 1024, 1024},
    {"square", 2048, 2048, 2048},      {"square", 4096, 4096, 4096},
    {"square", 8192, 8192, 8192},      {"square", 16384, 16384, 16384},
    {"DistilBERT", 6144, 768, 768},    {"DistilBERT", 6144, 3072, 768},
    {"DistilBERT", 6144, 768, 3072},   {"DistilBERT", 768, 768, 6144},
    {"DistilBERT", 768, 3072, 6144},   {"DistilBERT", 512, 512, 64, 144},
    {"DistilBERT", 512, 64, 512, 144}, {"LLaMA-7B", 2048, 4096, 4096},
    {"LLaMA-7B", 2048, 11008, 4096},   {"LLaMA-7B", 2048, 4096, 11008},
    {"LLaMA-7B", 2048, 32000, 4096},   {"ragged", 1000, 1000, 1000},
    {"ragged", 4099, 4097, 4101},      {"ragged", 3333, 777, 2048},
};
constexpr Shape kDecodeShapes[] = {
    {"decode", 1, 4096, 4096},  {"decode", 1, 11008, 4096}, {"decode", 1, 4096, 11008},
    {"decode", 1, 32000, 4096}, {"decode", 4, 4096, 4096},  {"decode", 16, 11008, 4096},
};
constexpr Shape kCheckShapes[] = {
    {"check", 64, 64, 64},
    {"check", 129, 65, 100},
    {"check", 200, 130, 300, 2},
    {"check", 1, 96, 80},
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Times by events around `count` calls, the i-th of which gets i.
class Timer {
 public:
  Timer(CudaBackend& backend, double sample_seconds)
      : backend_(backend), sample_seconds_(sample_seconds) {
    require(api::create_event(&start_, true), "making an event");
    require(api::create_event(&end_, true), "making an event");
  }
  double seconds(const std::function<void(size_t)>& run, int count) {
    require(api::record_event(start_, backend_.stream()), "timing");
    for (int i = 0; i < count; ++i) run(next_++);
    require(api::record_event(end_, backend_.stream()), "timing");
    require(api::synchronize_event(end_), "timing");
    float ms = 0;
    require(api::elapsed_ms(&ms, start_, end_), "timing");
    return ms * 1e-3 / count;
  }
  // How often to call what takes so long for one sample.
  int calls(const std::function<void(size_t)>& run) {
    seconds(run, 2);
    return std::clamp(static_cast<int>(sample_seconds_ / seconds(run, 3)), 1, 400);
  }

 private:
  CudaBackend& backend_;
  const double sample_seconds_;
  api::Event start_ = nullptr;
  api::Event end_ = nullptr;
  size_t next_ = 0;
};

struct Row {
  std::string name;
  const char* kind;
  const char* group;
  double error;
  bool failed;
  std::vector<double> ours, first, best;  // seconds of each repeat
};

class Bench {
 public:
  Bench(CudaBackend& backend, const Options& options)
      : backend_(backend),
        options_(options),
        timer_(backend, options.quick ? 4e-3 : 12e-3),
        workspace_(backend, options.check_only ? 512 : CublasLt::kWorkspaceBytes) {}

  bool failed() const { return failed_; }

  void header() {
    if (options_.json) {
      std::printf("{\"device\": \"%s\", \"rival\": \"%s\", \"copyGBs\": %.1f}\n",
                  backend_.properties().name, lt_.name().c_str(), copy_);
    } else {
      std::printf("%s, rival: %s, copy %.1f GB/s\n", backend_.properties().name, lt_.name().c_str(),
                  copy_);
    }
  }

  // What the device copies a second, read and written.
  void measure_copy() {
    constexpr size_t kBytes = size_t{1} << 30;
    const Scratch from(backend_, kBytes), to(backend_, kBytes);
    require(api::set_bytes(from.data(), 0x5a, kBytes, backend_.stream()), "filling");
    const auto run = [&](size_t) {
      require(api::copy_on_device(to.data(), from.data(), kBytes, backend_.stream()), "copying");
    };
    timer_.seconds(run, 3);
    std::vector<double> times;
    for (int i = 0; i < options_.repeats; ++i) times.push_back(timer_.seconds(run, 10));
    copy_ = 2.0 * static_cast<double>(kBytes) / median(times) / 1e9;
  }

  void run(const Kind& kind, const Shape& shape, bool lhs_transposed, bool rhs_transposed) {
    const Operands operands(backend_, numbers_, kind, shape, lhs_transposed, rhs_transposed);
    const std::vector<GemmDesc>& descs = operands.descs();
    const auto ours = [&](size_t i) { gemm(backend_, descs[i % descs.size()]); };
    ours(0);
    backend_.synchronize();
    Row row;
    row.kind = kind.name;
    row.group = shape.group;
    char text[96];
    std::snprintf(text, sizeof text, "%d x %d x %d%s %c%c", static_cast<int>(shape.M),
                  static_cast<int>(shape.N), static_cast<int>(shape.K),
                  shape.batch > 1 ? (" x" + std::to_string(shape.batch)).c_str() : "",
                  lhs_transposed ? 'T' : 'N', rhs_transposed ? 'T' : 'N');
    row.name = text;
    row.error = operands.error();
    row.failed = !(row.error <= kind.bound);
    failed_ = failed_ || row.failed;
    if (!options_.check_only) time(operands, ours, row);
    print(operands, kind, row);
  }

 private:
  void time(const Operands& operands, const std::function<void(size_t)>& ours, Row& row) {
    const std::vector<GemmDesc>& descs = operands.descs();
    std::optional<CublasLt::Product> rival;
    std::function<void(size_t)> first, best;
    if (lt_.loaded()) {
      rival.emplace(lt_, descs[0]);
      const auto with = [&](const CublasLt::Algorithm& algorithm) {
        return [&, algorithm](size_t i) {
          const GemmDesc& desc = descs[i % descs.size()];
          rival->run(algorithm, desc, workspace_.data(), backend_.stream());
        };
      };
      double least = INFINITY;
      for (const auto& algorithm : rival->algorithms()) {
        if (!rival->run(algorithm, descs[0], workspace_.data(), backend_.stream())) continue;
        const auto candidate = with(algorithm);
        if (!first) first = candidate;
        const double seconds = timer_.seconds(candidate, timer_.calls(candidate));
        if (seconds < least) {
          least = seconds;
          best = candidate;
        }
      }
    }
    const int count = timer_.calls(ours);
    const int first_count = first ? timer_.calls(first) : 0;
    const int best_count = best ? timer_.calls(best) : 0;
    for (int repeat = 0; repeat < options_.repeats; ++repeat) {
      row.ours.push_back(timer_.seconds(ours, count));
      if (first) row.first.push_back(timer_.seconds(first, first_count));
      if (best) row.best.push_back(timer_.seconds(best, best_count));
    }
  }

  static double ratio(const std::vector<double>& others, const std::vector<double>& ours) {
    std::vector<double> ratios;
    for (size_t i = 0; i < others.size(); ++i) ratios.push_back(others[i] / ours[i]);
    return median(ratios);
  }

  void print(const Operands& operands, const Kind& kind, const Row& row) const {
    if (options_.check_only) {
      std::printf("%-16s %-28s error %.2e%s\n", row.kind, row.name.c_str(), row.error,
                  row.failed ? "  BEYOND ITS BOUND" : "");
      return;
    }
    const double seconds = median(row.ours);
    const double tflops = operands.operations() / seconds / 1e12;
    const double gbs = operands.bytes() / seconds / 1e9;
    const double to_first = row.first.empty() ? 0 : ratio(row.first, row.ours);
    const double to_best = row.best.empty() ? 0 : ratio(row.best, row.ours);
    if (!options_.json) {
      std::printf("%-16s %-28s %8.1f TFLOP/s %5.1f %% %8.1f GB/s  error %.1e%s", row.kind,
                  row.name.c_str(), tflops, 100 * tflops / kind.peak_tflops, gbs, row.error,
                  row.failed ? " BEYOND ITS BOUND" : "");
      if (to_first > 0) std::printf("  cuBLASLt first %.3f best %.3f", to_first, to_best);
      std::printf("\n");
    } else {
      std::printf(
          "{\"kind\": \"%s\", \"group\": \"%s\", \"name\": \"%s\", \"seconds\": %.4g, "
          "\"low\": %.4g, \"high\": %.4g, \"TFLOPs\": %.2f, \"GBs\": %.1f, \"peakShare\": %.4f, "
          "\"intensity\": %.3f, \"error\": %.3g, \"failed\": %s, \"toFirst\": %.4f, "
          "\"toBest\": %.4f}\n",
          row.kind, row.group, row.name.c_str(), seconds,
          *std::min_element(row.ours.begin(), row.ours.end()),
          *std::max_element(row.ours.begin(), row.ours.end()), tflops, gbs,
          tflops / kind.peak_tflops, operands.operations() / operands.bytes(),
          std::isfinite(row.error) ? row.error : 1e300, row.failed ? "true" : "false", to_first,
          to_best);
    }
    std::fflush(stdout);
  }

  CudaBackend& backend_;
  const Options& options_;
  Numbers numbers_;
  const CublasLt lt_;
  Timer timer_;
  const Scratch workspace_;
  double copy_ = 0;
  bool failed_ = false;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--check") {
      options.check_only = true;
    } else if (argument == "--quick") {
      options.quick = true;
      options.repeats = 3;
    } else if (argument == "--repeats" && i + 1 < argc) {
      options.repeats = std::max(1, std::atoi(argv[++i]));
    } else {
      options.parts.push_back(argument);
    }
  }
  return options;
}

int run_all(const Options& options) {
  if (device_count() == 0) {
    std::printf("no GPU: nothing was measured\n");
    return 0;
  }
  if (api::is_emulated() && !options.check_only) {
    std::printf("the emulated device is for tests, its times say nothing\n");
    return 1;
  }
  Bench bench(backend(0), options);
  if (!options.check_only) {
    bench.measure_copy();
    bench.header();
  }
  for (const Kind& kind : kKinds) {
    if (!options.wants(kind.name)) continue;
    for (int layout = 0; layout < 4; ++layout) {
      const bool lhs_transposed = (layout & 2) != 0;
      const bool rhs_transposed = (layout & 1) != 0;
      // No product of training has both.
      if (options.quick && lhs_transposed && rhs_transposed) continue;
      if (options.check_only) {
        for (const Shape& shape : kCheckShapes)
          bench.run(kind, shape, lhs_transposed, rhs_transposed);
        continue;
      }
      for (const Shape& shape : kShapes) {
        // Where the rate of general arithmetic applies, the largest would take the time of all.
        const bool is_slow = kind.peak_tflops < 100;
        if (shape.M > 8192 && (is_slow || lhs_transposed)) continue;
        bench.run(kind, shape, lhs_transposed, rhs_transposed);
      }
    }
  }
  if (options.wants("gemv") && !options.check_only) {
    for (const Kind& kind : kKinds) {
      if (kind.in != DType::kBFloat16 && kind.precision != MatmulPrecision::kHigh) continue;
      for (const Shape& shape : kDecodeShapes) {
        bench.run(kind, shape, false, false);
        bench.run(kind, shape, false, true);
      }
    }
  }
  return bench.failed() ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run_all(parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_gemm_bench: %s\n", error.what());
    return 1;
  }
}
