#include "choose.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "cuda/runtime/error.h"
#include "cuda/tensors.h"
#include "families.h"
#include "tuning_file.h"

namespace mixprec::cuda {
namespace {

constexpr size_t kMostRemembered = 4096;
constexpr size_t kMeasured = 5;  // kernels
constexpr int kRounds = 4;

// What was chosen for a device.
struct Choices {
  std::mutex mutex;
  std::unordered_map<GemmKey, GemmConfig, GemmKeyHash> remembered;
  std::unique_ptr<TuningFile> file;
};

Choices& choices_of(int device) {
  constexpr int kMostDevices = 64;
  static auto* const all = new Choices[kMostDevices];  // outlives static objects, as backends do
  return all[device % kMostDevices];
}

// From the first byte of out to behind its last one.
size_t out_bytes(const GemmDesc& desc) {
  const int64_t last = (desc.outer - 1) * desc.out_outer_stride +
                       (desc.batch - 1) * desc.out_batch_stride +
                       (desc.M - 1) * desc.out_row_stride + desc.N;
  return static_cast<size_t>(last) * item_size(desc.out_dtype);
}

class Stopwatch {
 public:
  Stopwatch() {
    require(api::create_event(&start_, true), "measuring a kernel");
    require(api::create_event(&end_, true), "measuring a kernel");
  }
  ~Stopwatch() {
    api::destroy_event(start_);
    api::destroy_event(end_);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  template <class Body>
  double seconds(api::Stream stream, const Body& body) {
    require(api::record_event(start_, stream), "measuring a kernel");
    body();
    require(api::record_event(end_, stream), "measuring a kernel");
    require(api::synchronize_event(end_), "measuring a kernel");
    float ms = 0;
    require(api::elapsed_ms(&ms, start_, end_), "measuring a kernel");
    return ms * 1e-3;
  }

 private:
  api::Event start_ = nullptr;
  api::Event end_ = nullptr;
};

// Measures with the operands themselves and an output of its own.
GemmConfig measured(CudaBackend& backend, const GemmDesc& desc,
                    const std::vector<GemmRanked>& ranked) {
  const size_t bytes = out_bytes(desc);
  const bool keeps = desc.epilogue.aux != nullptr && !desc.epilogue.derivative;
  const Scratch out(backend, bytes);
  const Scratch aux(backend, keeps ? bytes : 0);
  GemmDesc trial = desc;
  trial.out = out.data();
  if (keeps) trial.epilogue.aux = aux.data();
  require(api::set_bytes(out.data(), 0, bytes, backend.stream()), "measuring a kernel");
  Stopwatch stopwatch;
  return fastest(ranked, [&](const GemmConfig& config) {
    return stopwatch.seconds(backend.stream(), [&] { run_gemm(backend, trial, config); });
  });
}

// Whether the kernels that are there can do as a file says.
bool is_offered(const GemmConfig& config, const std::vector<GemmRanked>& ranked) {
  return std::any_of(ranked.begin(), ranked.end(), [&](const GemmRanked& row) {
    return row.config.family == config.family && row.config.variant == config.variant &&
           config.splits <= row.tile.max_splits && (!config.swapped || row.tile.can_swap);
  });
}

GemmConfig tuned(CudaBackend& backend, const GemmDesc& desc, const GemmKey& key,
                 const std::vector<GemmRanked>& ranked, Choices& choices) {
  if (!choices.file) {
    TuningIdentity identity;
    identity.device = backend.properties().name;
    api::driver_version(&identity.driver);
    identity.version = MIXPREC_VERSION;
    choices.file = std::make_unique<TuningFile>(cache_directory(), identity);
  }
  const std::optional<GemmConfig> known = choices.file->find(key);
  if (known && is_offered(*known, ranked)) return *known;
  const GemmConfig config = measured(backend, desc, ranked);
  choices.file->put(key, config);
  return config;
}

}  // namespace

bool autotunes() {
  static const bool asked = [] {
    const char* text = std::getenv("MIXPREC_GEMM_AUTOTUNE");
    return text != nullptr && std::strcmp(text, "1") == 0 && !api::is_emulated();
  }();
  return asked;
}

GemmConfig fastest(const std::vector<GemmRanked>& ranked,
                   const std::function<double(const GemmConfig&)>& seconds) {
  const size_t count = std::min(kMeasured, ranked.size());
  std::vector<double> least(count, std::numeric_limits<double>::infinity());
  for (int round = 0; round <= kRounds; ++round) {
    for (size_t i = 0; i < count; ++i) {
      const double time = seconds(ranked[i].config);
      if (round > 0) least[i] = std::min(least[i], time);  // the first one warms up
    }
  }
  const auto best = std::min_element(least.begin(), least.end()) - least.begin();
  return ranked[static_cast<size_t>(best)].config;
}

GemmConfig choose_gemm(CudaBackend& backend, const GemmDesc& desc) {
  const GemmKey key(desc);
  Choices& choices = choices_of(backend.device());
  const std::lock_guard<std::mutex> lock(choices.mutex);
  const auto found = choices.remembered.find(key);
  if (found != choices.remembered.end()) return found->second;
  const api::DeviceProperties& device = backend.properties();
  const std::vector<GemmRanked> ranked = rank(desc, gemm_offer(desc, device).tiles, device);
  check(!ranked.empty(), "no kernel takes this product");
  const GemmConfig config = autotunes() && ranked.size() > 1
                                ? tuned(backend, desc, key, ranked, choices)
                                : ranked.front().config;
  if (choices.remembered.size() >= kMostRemembered) choices.remembered.clear();
  choices.remembered.emplace(key, config);
  return config;
}

}  // namespace mixprec::cuda
