// Matrix products of the CPU backend next to OpenBLAS and oneDNN, where they are installed, on one
// row each:
// GFLOP/s by the median of repeats that take turns; a ratio is the median of those of neighbours in
// time, so that other work on the machine weighs on both sides. Also the 16-bit types and the lower
// precisions next to our own float32, and products with a vector next to the speed at which memory
// is read. Usage: gemm_bench [--json] [REPEATS] [PART...]
//   PART: float32, types, float64, vector; --json: a line of JSON for each row instead of tables

#include <dlfcn.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "cpu/gemm/gemm.h"
#include "cpu/isa.h"
#include "cpu/thread_pool.h"

namespace {

using namespace mixprec;
using Clock = std::chrono::steady_clock;

constexpr int kRowMajor = 101, kNoTrans = 111, kTrans = 112;  // of CBLAS
// OpenBLAS's threads spin this long after a call, on the cores that the next one needs.
constexpr auto kRivalSpin = std::chrono::milliseconds(60);
constexpr double kSampleSeconds = 0.04;

// A row of a table, or of JSON: a name and figures, each under its title. One that is 0 was not
// measured.
class Report {
 public:
  bool json = false;

  void begin(const char* part, const std::vector<const char*>& titles) {
    part_ = part;
    titles_ = titles;
    if (json) return;
    std::printf("\n%-34s", part);
    for (const char* title : titles) std::printf(" %16s", title);
    std::printf("\n");
  }
  void row(const std::string& name, const std::vector<double>& figures) const {
    if (json) {
      std::printf("{\"part\": \"%s\", \"name\": \"%s\"", part_, name.c_str());
      for (size_t i = 0; i < figures.size(); ++i) {
        if (figures[i] > 0) std::printf(", \"%s\": %.4g", titles_[i], figures[i]);
      }
      std::printf("}\n");
    } else {
      std::printf("%-34s", name.c_str());
      for (const double figure : figures) {
        if (figure > 0) {
          std::printf(figure < 20 ? " %16.3f" : " %16.1f", figure);
        } else {
          std::printf(" %16s", "-");
        }
      }
      std::printf("\n");
    }
    std::fflush(stdout);
  }

 private:
  const char* part_ = "";
  std::vector<const char*> titles_;
};

struct OpenBlas {
  void (*sgemm)(int, int, int, int, int, int, float, const float*, int, const float*, int, float,
                float*, int) = nullptr;
  void (*dgemm)(int, int, int, int, int, int, double, const double*, int, const double*, int,
                double, double*, int) = nullptr;
  void (*sgemv)(int, int, int, int, float, const float*, int, const float*, int, float, float*,
                int) = nullptr;
  std::string name = "not installed";

  bool loaded() const { return sgemm != nullptr; }
};

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
}

OpenBlas load_openblas() {
  // The rival runs at its best: no settings that choose kernels for another machine.
  unsetenv("OPENBLAS_CORETYPE");
  unsetenv("OPENBLAS_L2_SIZE");
  OpenBlas blas;
  void* library = nullptr;
  for (const char* file : {"libopenblas.so.0", "libopenblas.so", "libopenblas.dylib"}) {
    if (library == nullptr) library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) return blas;
  find(library, "cblas_sgemm", blas.sgemm);
  find(library, "cblas_dgemm", blas.dgemm);
  find(library, "cblas_sgemv", blas.sgemv);
  void (*set_threads)(int) = nullptr;
  char* (*core)() = nullptr;
  find(library, "openblas_set_num_threads", set_threads);
  find(library, "openblas_get_corename", core);
  if (set_threads != nullptr) set_threads(cpu::num_threads());
  blas.name = core != nullptr ? core() : "unknown kernels";
  return blas;
}

// oneDNN's product of float32, row-major; its threads are OpenMP's, as many as there are cores.
using DnnlSgemm = int (*)(char, char, int64_t, int64_t, int64_t, float, const float*, int64_t,
                          const float*, int64_t, float, float*, int64_t);

DnnlSgemm load_onednn() {
  for (const char* file : {"libdnnl.so.3", "libdnnl.so.2", "libdnnl.so"}) {
    void* const library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) continue;
    DnnlSgemm sgemm = nullptr;
    find(library, "dnnl_sgemm", sgemm);
    if (sgemm != nullptr) return sgemm;
  }
  return nullptr;
}

double seconds_of(const std::function<void()>& run, int count) {
  const auto start = Clock::now();
  for (int i = 0; i < count; ++i) run();
  return std::chrono::duration<double>(Clock::now() - start).count() / count;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Seconds of each function in every repeat; the repeats of all are interleaved. A function that is
// empty has none.
class Samples {
 public:
  Samples(const std::vector<std::function<void()>>& runs, int repeats) : seconds_(runs.size()) {
    std::vector<int> counts(runs.size(), 1);
    for (int repeat = 0; repeat <= repeats; ++repeat) {
      for (size_t i = 0; i < runs.size(); ++i) {
        if (!runs[i]) continue;
        std::this_thread::sleep_for(kRivalSpin);
        const double warm = seconds_of(runs[i], 1);
        if (repeat == 0) {
          counts[i] = std::clamp(static_cast<int>(kSampleSeconds / warm), 1, 10000);
        } else {
          seconds_[i].push_back(seconds_of(runs[i], counts[i]));
        }
      }
    }
  }

  double seconds(size_t i) const { return median(seconds_[i]); }
  // How many times as long as `i` the function `other` takes.
  double ratio(size_t other, size_t i) const {
    std::vector<double> ratios;
    for (size_t at = 0; at < seconds_[i].size(); ++at) {
      ratios.push_back(seconds_[other][at] / seconds_[i][at]);
    }
    return median(ratios);
  }

 private:
  std::vector<std::vector<double>> seconds_;
};

// Memory for `count` elements of a type, filled with small values that are exact in all of them.
std::vector<char> values(int64_t count, DType dtype) {
  std::vector<char> memory(static_cast<size_t>(count) * item_size(dtype));
  uint32_t state = 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    const float value = static_cast<float>(static_cast<int>(state >> 28) - 8) / 16.0f;
    char* p = memory.data() + static_cast<size_t>(i) * item_size(dtype);
    if (dtype == DType::kFloat64) *reinterpret_cast<double*>(p) = value;
    if (dtype == DType::kFloat32) *reinterpret_cast<float*>(p) = value;
    if (dtype == DType::kFloat16) *reinterpret_cast<Float16*>(p) = to_float16(value);
    if (dtype == DType::kBFloat16) *reinterpret_cast<BFloat16*>(p) = to_bfloat16(value);
  }
  return memory;
}

struct Product {
  int64_t M, N, K;
  bool lhs_transposed = false, rhs_transposed = false;

  double operations() const {
    return 2.0 * static_cast<double>(M) * static_cast<double>(N) * static_cast<double>(K);
  }
  std::string name() const {
    char text[64];
    std::snprintf(text, sizeof text, "%4d x %4d x %4d  %c%c", static_cast<int>(M),
                  static_cast<int>(N), static_cast<int>(K), lhs_transposed ? 'T' : 'N',
                  rhs_transposed ? 'T' : 'N');
    return text;
  }
};

struct Operands {
  std::vector<char> lhs, rhs, out;
  GemmDesc desc;

  Operands(const Product& p, DType dtype, MatmulPrecision precision)
      : lhs(values(p.M * p.K, dtype)),
        rhs(values(p.K * p.N, dtype)),
        out(values(p.M * p.N, dtype)) {
    desc.M = p.M;
    desc.N = p.N;
    desc.K = p.K;
    desc.lhs = {lhs.data(), dtype, p.lhs_transposed ? 1 : p.K, p.lhs_transposed ? p.M : 1, 0};
    desc.rhs = {rhs.data(), dtype, p.rhs_transposed ? 1 : p.N, p.rhs_transposed ? p.K : 1, 0};
    desc.out = out.data();
    desc.out_dtype = dtype;
    desc.out_row_stride = p.N;
    desc.precision = precision;
  }
};

template <class T, class Gemm>
std::function<void()> rival(Gemm gemm, const Product& p, Operands& x) {
  if (gemm == nullptr) return {};
  return [=, &x] {
    gemm(kRowMajor, p.lhs_transposed ? kTrans : kNoTrans, p.rhs_transposed ? kTrans : kNoTrans,
         static_cast<int>(p.M), static_cast<int>(p.N), static_cast<int>(p.K), T{1},
         reinterpret_cast<const T*>(x.lhs.data()), static_cast<int>(p.lhs_transposed ? p.M : p.K),
         reinterpret_cast<const T*>(x.rhs.data()), static_cast<int>(p.rhs_transposed ? p.K : p.N),
         T{0}, reinterpret_cast<T*>(x.out.data()), static_cast<int>(p.N));
  };
}

std::vector<Product> products() {
  std::vector<Product> shapes;
  for (const int64_t n : {512, 768, 1024, 2048}) shapes.push_back({n, n, n});
  for (const int64_t N : {768, 3072}) {
    for (const int64_t K : {768, 3072}) shapes.push_back({1536, N, K});
  }
  std::vector<Product> all;
  for (const Product& p : shapes) {
    all.push_back(p);                             // g W: the gradient of the input
    all.push_back({p.M, p.N, p.K, false, true});  // x W^T: forward
    all.push_back({p.M, p.N, p.K, true, false});  // g^T x: the gradient of the weight
  }
  return all;
}

void against_rivals(Report& report, const OpenBlas& blas, DType dtype, int repeats) {
  const DnnlSgemm dnnl = dtype == DType::kFloat32 ? load_onednn() : nullptr;
  report.begin(dtype_name(dtype), {"GFLOP/s", "OpenBLAS", "to OpenBLAS", "oneDNN", "to oneDNN"});
  for (const Product& p : products()) {
    Operands x(p, dtype, MatmulPrecision::kHighest);
    const auto theirs =
        dtype == DType::kFloat64 ? rival<double>(blas.dgemm, p, x) : rival<float>(blas.sgemm, p, x);
    std::function<void()> onednn;
    if (dnnl != nullptr) {
      onednn = [&x, p, dnnl] {
        dnnl(p.lhs_transposed ? 'T' : 'N', p.rhs_transposed ? 'T' : 'N', p.M, p.N, p.K, 1.0f,
             reinterpret_cast<const float*>(x.lhs.data()), p.lhs_transposed ? p.M : p.K,
             reinterpret_cast<const float*>(x.rhs.data()), p.rhs_transposed ? p.K : p.N, 0.0f,
             reinterpret_cast<float*>(x.out.data()), p.N);
      };
    }
    const Samples times({[&] { cpu::gemm(x.desc); }, theirs, onednn}, repeats);
    const auto rate = [&](size_t i) { return p.operations() / times.seconds(i) * 1e-9; };
    report.row(p.name(), {rate(0), theirs ? rate(1) : 0, theirs ? times.ratio(1, 0) : 0,
                          onednn ? rate(2) : 0, onednn ? times.ratio(2, 0) : 0});
  }
}

void types_against_float32(Report& report, int repeats) {
  report.begin("types, ratios to float32", {"float32", "float16", "bfloat16", "high", "medium"});
  for (const Product& p : products()) {
    Operands highest(p, DType::kFloat32, MatmulPrecision::kHighest);
    Operands half(p, DType::kFloat16, MatmulPrecision::kHighest);
    Operands bfloat(p, DType::kBFloat16, MatmulPrecision::kHighest);
    Operands high(p, DType::kFloat32, MatmulPrecision::kHigh);
    Operands medium(p, DType::kFloat32, MatmulPrecision::kMedium);
    std::vector<std::function<void()>> runs;
    for (Operands* x : {&highest, &half, &bfloat, &high, &medium}) {
      runs.emplace_back([x] { cpu::gemm(x->desc); });
    }
    const Samples times(runs, repeats);
    std::vector<double> figures{p.operations() / times.seconds(0) * 1e-9};
    for (size_t i = 1; i < runs.size(); ++i) figures.push_back(times.ratio(0, i));
    report.row(p.name(), figures);
  }
}

// Sums `bytes` of memory in every thread: the most that a product with a vector can reach.
double read_seconds(const std::vector<char>& memory, int repeats) {
  const auto* words = reinterpret_cast<const uint64_t*>(memory.data());
  const auto count = static_cast<int64_t>(memory.size() / 8);
  const int64_t piece = 1 << 15;
  volatile uint64_t sink = 0;
  const auto run = [&] {
    cpu::parallel_for(count / piece, 1, [&](int64_t begin, int64_t end) {
      uint64_t lanes[32] = {};
      for (int64_t i = begin * piece; i < end * piece; i += 32) {
        for (int j = 0; j < 32; ++j) lanes[j] ^= words[i + j];
      }
      uint64_t all = 0;
      for (const uint64_t lane : lanes) all ^= lane;
      if (all == 1) sink = all;
    });
  };
  return Samples({run}, repeats).seconds(0);
}

void vectors(Report& report, const OpenBlas& blas, int repeats) {
  report.begin("vector x matrix", {"GB/s", "reading GB/s", "OpenBLAS GB/s", "to OpenBLAS"});
  for (const auto& [N, K] : {std::pair<int64_t, int64_t>{768, 768}, {3072, 768}, {4096, 11008}}) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
      for (const bool transposed : {false, true}) {
        const Product p{1, N, K, false, transposed};
        Operands x(p, dtype, MatmulPrecision::kHighest);
        const double bytes = static_cast<double>(x.rhs.size());
        std::function<void()> theirs;
        if (blas.sgemv != nullptr && dtype == DType::kFloat32) {
          theirs = [&, n = static_cast<int>(N), k = static_cast<int>(K)] {
            blas.sgemv(kRowMajor, transposed ? kNoTrans : kTrans, transposed ? n : k,
                       transposed ? k : n, 1.0f, reinterpret_cast<const float*>(x.rhs.data()),
                       transposed ? k : n, reinterpret_cast<const float*>(x.lhs.data()), 1, 0.0f,
                       reinterpret_cast<float*>(x.out.data()), 1);
          };
        }
        const Samples times({[&] { cpu::gemm(x.desc); }, theirs}, repeats);
        const double reading = read_seconds(x.rhs, repeats);
        report.row(std::string(dtype_name(dtype)) + " " + p.name(),
                   {bytes / times.seconds(0) * 1e-9, bytes / reading * 1e-9,
                    theirs ? bytes / times.seconds(1) * 1e-9 : 0, theirs ? times.ratio(1, 0) : 0});
      }
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  int repeats = 7;
  Report report;
  std::vector<std::string> parts;
  for (int i = 1; i < count; ++i) {
    if (std::strcmp(arguments[i], "--json") == 0) {
      report.json = true;
    } else if (std::isdigit(static_cast<unsigned char>(arguments[i][0])) != 0) {
      repeats = std::max(1, std::atoi(arguments[i]));
    } else {
      parts.emplace_back(arguments[i]);
    }
  }
  const auto wanted = [&](const char* part) {
    return parts.empty() || std::find(parts.begin(), parts.end(), part) != parts.end();
  };
  const OpenBlas blas = load_openblas();
  if (report.json) {
    std::printf("{\"threads\": %d, \"instructions\": \"%s\", \"openblas\": \"%s\"}\n",
                cpu::num_threads(), cpu::isa_name(cpu::isa()), blas.name.c_str());
  } else {
    std::printf("%d threads, %s; OpenBLAS: %s; medians of %d\n", cpu::num_threads(),
                cpu::isa_name(cpu::isa()), blas.name.c_str(), repeats);
  }
  if (wanted("float32")) against_rivals(report, blas, DType::kFloat32, repeats);
  if (wanted("types")) types_against_float32(report, repeats);
  if (wanted("float64")) against_rivals(report, blas, DType::kFloat64, repeats);
  if (wanted("vector")) vectors(report, blas, repeats);
  return 0;
}
