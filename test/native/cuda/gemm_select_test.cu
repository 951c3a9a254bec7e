// The choice of a kernel, without a device: the model on the facts of an H200 and an A100, with
// tiles as the families have them; what a key tells apart; the file of measured choices.
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cuda/gemm/choose.h"
#include "cuda/gemm/families.h"
#include "cuda/gemm/tuning_file.h"
#include "testing.h"

using namespace mixprec;
using namespace mixprec::cuda;

namespace {

api::DeviceProperties h200() {
  api::DeviceProperties device;
  device.major = 9;
  device.multiprocessors = 132;
  device.threads_per_multiprocessor = 2048;
  device.shared_bytes_per_block = 227 << 10;
  device.l2_bytes = size_t{60} << 20;
  device.clock_hz = 1.83e9;
  device.memory_bytes_per_second = 4.8e12;
  return device;
}

api::DeviceProperties a100() {
  api::DeviceProperties device = h200();
  device.major = 8;
  device.multiprocessors = 108;
  device.l2_bytes = size_t{40} << 20;
  device.clock_hz = 1.41e9;
  device.memory_bytes_per_second = 2.0e12;
  return device;
}

GemmDesc product(int64_t M, int64_t N, int64_t K, DType dtype = DType::kBFloat16) {
  GemmDesc desc;
  desc.M = M;
  desc.N = N;
  desc.K = K;
  desc.lhs = {nullptr, dtype, K, 1, 0, 0};
  desc.rhs = {nullptr, dtype, N, 1, 0, 0};
  desc.out_dtype = dtype;
  desc.out_row_stride = N;
  return desc;
}

GemmTile tile(GemmFamily family, int32_t variant, int32_t m, int32_t n, double rate,
              int32_t cluster = 1, int32_t resident = 1) {
  GemmTile made;
  made.family = family;
  made.variant = variant;
  made.m = m;
  made.n = n;
  made.depth = 64;
  made.cluster = cluster;
  made.resident = resident;
  made.max_splits = 16;
  made.can_swap = true;
  made.flops_per_clock = tile_share(m, n, rate, 25);
  made.start_seconds = 1e-6;
  return made;
}

// Tiles such as the tensor-core kernels have, and one that is narrow.
std::vector<GemmTile> tiles_of(const GemmDesc& desc, const api::DeviceProperties& device) {
  const GemmRates rates = gemm_rates(desc, device);
  const double rate = rates.wgmma > 0 ? rates.wgmma : rates.mma;
  const auto family = rates.wgmma > 0 ? GemmFamily::kWgmmaSm90 : GemmFamily::kMmaSm80;
  std::vector<GemmTile> tiles = {tile(family, 0, 128, 256, rate, 2),
                                 tile(family, 1, 128, 128, rate, 2), tile(family, 2, 64, 128, rate),
                                 tile(family, 3, 64, 64, rate, 1, 2),
                                 tile(family, 4, 64, 16, rate, 1, 2)};
  GemmOffer offer;
  offer_simt(desc, device, offer);
  tiles.insert(tiles.end(), offer.tiles.begin(), offer.tiles.end());
  return tiles;
}

GemmRanked best(const GemmDesc& desc, const api::DeviceProperties& device = h200()) {
  return rank(desc, tiles_of(desc, device), device).front();
}

double share_of_peak(const GemmDesc& desc, const GemmRanked& choice,
                     const api::DeviceProperties& device = h200()) {
  const double flops = 2.0 * static_cast<double>(desc.M * desc.N * desc.batch * desc.outer) *
                       static_cast<double>(desc.K);
  return flops / choice.estimate.seconds / peak_flops(desc, device);
}

std::string shape_of(const GemmDesc& desc) {
  return std::to_string(desc.M) + " x " + std::to_string(desc.N) + " x " + std::to_string(desc.K);
}

}  // namespace

TEST("large products take large tiles, near the peak") {
  for (const api::DeviceProperties& device : {h200(), a100()}) {
    for (const int64_t n : {4096, 8192, 16384}) {
      const GemmDesc desc = product(n, n, n);
      const GemmRanked choice = best(desc, device);
      EXPECT(choice.tile.m * choice.tile.n >= 128 * 128, shape_of(desc));
      EXPECT_EQ(choice.config.splits, 1);
      EXPECT(!choice.config.swapped, shape_of(desc));
      const double share = share_of_peak(desc, choice, device);
      EXPECT(share > 0.6 && share < 0.95, shape_of(desc) + ": " + std::to_string(share));
    }
  }
}

TEST("products of few tiles keep the whole device busy") {
  for (const GemmDesc& desc :
       {product(512, 512, 512), product(1024, 1024, 1024), product(768, 768, 6144),
        product(768, 3072, 6144), product(256, 7168, 2048), product(64, 64, 65536)}) {
    const GemmRanked choice = best(desc);
    EXPECT(choice.estimate.blocks >= 60,
           shape_of(desc) + " makes " + std::to_string(choice.estimate.blocks) + " blocks");
    EXPECT(choice.config.family == GemmFamily::kWgmmaSm90, shape_of(desc));
    EXPECT_EQ(desc.K >= choice.config.splits * 4 * choice.tile.depth || choice.config.splits == 1,
              true);
  }
  // Where tiles alone are too few, K is shared out, but not where they are enough.
  EXPECT(best(product(768, 768, 6144)).config.splits > 1, "weight gradient");
  EXPECT(best(product(64, 64, 65536)).config.splits > 1, "long K");
  EXPECT_EQ(best(product(6144, 3072, 768)).config.splits, 1);
}

TEST("training shapes come close to what the model thinks possible") {
  for (const GemmDesc& desc :
       {product(6144, 768, 768), product(6144, 3072, 768), product(6144, 768, 3072),
        product(4096, 4096, 4096), product(4096, 11008, 4096), product(4096, 4096, 11008)}) {
    const double share = share_of_peak(desc, best(desc));
    EXPECT(share > 0.35, shape_of(desc) + ": " + std::to_string(share));
  }
}

TEST("skinny products are as fast as the memory, and turned where that is better") {
  for (const int64_t m : {1, 4, 8, 16}) {
    for (const auto& [n, k] :
         {std::pair<int64_t, int64_t>{4096, 4096}, {11008, 4096}, {4096, 11008}, {32000, 4096}}) {
      GemmDesc desc = product(m, n, k);
      desc.rhs.row_stride = 1;  // a weight [N, K]
      desc.rhs.col_stride = k;
      const GemmRanked choice = best(desc);
      const double floor = 2.0 * static_cast<double>(n * k) / 4.8e12;
      EXPECT(choice.estimate.seconds < 1.5 * floor + 12e-6,
             shape_of(desc) + ": " + std::to_string(choice.estimate.seconds / floor));
      std::vector<GemmTile> upright = tiles_of(desc, h200());
      for (GemmTile& row : upright) row.can_swap = false;
      const double without = rank(desc, upright, h200()).front().estimate.seconds;
      EXPECT(choice.estimate.seconds <= without, shape_of(desc));
    }
  }
  // Where multiplying takes longer than reading the weights, rows that are not there cost.
  const GemmRanked planes = best(product(8, 11008, 4096, DType::kFloat32));
  EXPECT(planes.config.swapped && planes.tile.n == 16, "float32 of the highest precision");
  EXPECT(!best(product(4096, 8, 4096)).config.swapped, "narrow already");
  EXPECT(!best(product(17, 4096, 4096)).config.swapped, "not narrow enough");
}

TEST("every shape has a kernel and a finite time") {
  for (const int64_t m : {1, 3, 16, 17, 63, 64, 65, 127, 129, 1000}) {
    for (const int64_t n : {1, 7, 64, 255, 257, 50257}) {
      for (const int64_t k : {0, 1, 31, 64, 65, 4095}) {
        for (const DType dtype :
             {DType::kBFloat16, DType::kFloat32, DType::kFloat64, DType::kInt64}) {
          const GemmDesc desc = product(m, n, k, dtype);
          GemmOffer offer;
          offer_simt(desc, h200(), offer);
          const GemmRanked choice = rank(desc, offer.tiles, h200()).front();
          EXPECT(choice.config.family == GemmFamily::kSimt && choice.config.splits == 1,
                 shape_of(desc));
          EXPECT(choice.estimate.seconds > 0 && std::isfinite(choice.estimate.seconds),
                 shape_of(desc));
        }
      }
    }
  }
}

TEST("the model: more work takes longer, a broadcast operand is read once") {
  const GemmTile one = tile(GemmFamily::kWgmmaSm90, 0, 128, 128, 4096);
  double before = 0;
  for (const int64_t k : {64, 256, 1024, 4096, 16384}) {
    const double time = estimate(product(2048, 2048, k), one, {}, h200()).seconds;
    EXPECT(time > before, std::to_string(k));
    before = time;
  }
  GemmDesc batched = product(128, 128, 4096);
  batched.batch = 256;
  batched.lhs.batch_stride = 128 * 4096;
  const double shared = estimate(batched, one, {}, h200()).memory;
  batched.rhs.batch_stride = 128 * 4096;
  const double own = estimate(batched, one, {}, h200()).memory;
  EXPECT(own > 1.8 * shared, std::to_string(own / shared));
  // One block more than there are multiprocessors costs a second turn.
  const double full = estimate(product(128 * 132, 128, 4096), one, {}, h200()).compute;
  const double more = estimate(product(128 * 132 + 1, 128, 4096), one, {}, h200()).compute;
  EXPECT(more > 1.9 * full, std::to_string(more / full));
}

TEST("the transpose of a product") {
  GemmDesc desc = product(3, 5, 7);
  const GemmDesc turned = swapped(desc);
  EXPECT_EQ(turned.M, 5);
  EXPECT_EQ(turned.N, 3);
  EXPECT_EQ(turned.lhs.row_stride, desc.rhs.col_stride);
  EXPECT_EQ(turned.lhs.col_stride, desc.rhs.row_stride);
  EXPECT_EQ(turned.rhs.row_stride, desc.lhs.col_stride);
}

TEST("keys tell products apart by all but addresses") {
  alignas(32) static char memory[64];
  GemmDesc desc = product(3, 5, 7);
  desc.lhs.data = memory;
  const GemmKey key(desc);
  desc.lhs.data = memory + 32;
  EXPECT(key == GemmKey(desc), "another address");
  EXPECT_EQ(GemmKeyHash()(key), GemmKeyHash()(GemmKey(desc)));
  const auto differs = [&](const char* what, auto change) {
    GemmDesc other = desc;
    change(other);
    EXPECT(!(key == GemmKey(other)), what);
    EXPECT(key.text() != GemmKey(other).text(), what);
  };
  differs("alignment", [&](GemmDesc& d) { d.lhs.data = memory + 2; });
  differs("M", [](GemmDesc& d) { d.M = 4; });
  differs("N", [](GemmDesc& d) { d.N = 4; });
  differs("K", [](GemmDesc& d) { d.K = 4; });
  differs("a batch stride", [](GemmDesc& d) { d.rhs.batch_stride = 4; });
  differs("precision", [](GemmDesc& d) { d.precision = MatmulPrecision::kHigh; });
  differs("alpha", [](GemmDesc& d) { d.alpha = 2; });
  differs("beta", [](GemmDesc& d) { d.beta = 1; });
  differs("activation", [](GemmDesc& d) { d.epilogue.activation = GemmActivation::kGelu; });
  differs("a residual", [&](GemmDesc& d) { d.epilogue.residual = memory; });
  differs("a bias", [&](GemmDesc& d) { d.bias = memory; });
}

TEST("a measurement decides, and equal times keep the order") {
  const GemmDesc desc = product(1024, 1024, 1024);
  const std::vector<GemmRanked> ranked = rank(desc, tiles_of(desc, h200()), h200());
  int calls = 0;
  const GemmConfig second = fastest(ranked, [&](const GemmConfig& config) {
    ++calls;
    return config.variant == ranked[1].config.variant ? 1.0 : 2.0;
  });
  EXPECT_EQ(second.variant, ranked[1].config.variant);
  EXPECT(calls >= 10, "each kernel is measured several times");
  const GemmConfig first = fastest(ranked, [](const GemmConfig&) { return 1.0; });
  EXPECT_EQ(first.variant, ranked[0].config.variant);
}

TEST("the file of measured choices") {
  namespace fs = std::filesystem;
  const fs::path directory =
      fs::temp_directory_path() / ("mixprec-tuning-" + std::to_string(std::rand()));
  const TuningIdentity identity{"a GPU", 13000, "1.2.3"};
  const GemmKey key(product(1, 2, 3));
  const GemmKey other(product(4, 5, 6));
  const GemmConfig config{GemmFamily::kWgmmaSm90, 3, 4, true};
  std::string path;
  {
    TuningFile file(directory.string(), identity);
    path = file.path();
    EXPECT(!file.find(key).has_value(), "an empty file");
    file.put(key, config);
    file.put(other, {});
  }
  const auto found = TuningFile(directory.string(), identity).find(key);
  EXPECT(found.has_value() && found->family == config.family && found->variant == 3 &&
             found->splits == 4 && found->swapped,
         "read back");
  EXPECT(TuningFile(directory.string(), identity).find(other).has_value(), "both");
  // Others' files have other names, and would not be believed under this one.
  for (const TuningIdentity& foreign :
       {TuningIdentity{"another", 13000, "1.2.3"}, TuningIdentity{"a GPU", 12000, "1.2.3"},
        TuningIdentity{"a GPU", 13000, "1.2.4"}}) {
    TuningFile file(directory.string(), foreign);
    EXPECT(file.path() != path && !file.find(key).has_value(), "foreign");
    fs::copy_file(path, file.path());
    EXPECT(!TuningFile(directory.string(), foreign).find(key).has_value(), "foreign content");
  }
  std::ifstream good(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(good)), std::istreambuf_iterator<char>());
  for (const std::string& bad :
       {std::string(), std::string("\0\1\2", 3), text.substr(0, text.size() - 2),
        text + "1,2 7 0 1 0\n", text + "nonsense\n", text + "1,2 0 0 1 0 9\n"}) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bad;
    EXPECT(!TuningFile(directory.string(), identity).find(key).has_value(), bad);
  }
  TuningFile again(directory.string(), identity);
  again.put(key, config);
  EXPECT(TuningFile(directory.string(), identity).find(key).has_value(), "written over");
  fs::remove_all(directory);
  // No directory, or one that cannot be made: choices are kept in memory.
  for (const char* nowhere : {"", "/proc/mixprec"}) {
    TuningFile file(nowhere, identity);
    file.put(key, config);
    EXPECT(file.find(key).has_value(), nowhere);
  }
}

TEST("the cache directory") {
  setenv("XDG_CACHE_HOME", "/somewhere", 1);
  EXPECT_EQ(cache_directory(), std::string("/somewhere/mixprec"));
  setenv("XDG_CACHE_HOME", "relative", 1);
  setenv("HOME", "/home/of", 1);
  EXPECT_EQ(cache_directory(), std::string("/home/of/.cache/mixprec"));
  unsetenv("HOME");
  EXPECT_EQ(cache_directory(), std::string());
}

#if defined(MIXPREC_CUDA_EMULATED)
TEST("nothing is measured in the emulator") {
  setenv("MIXPREC_GEMM_AUTOTUNE", "1", 1);
  EXPECT(!autotunes(), "the emulator's times say nothing");
}
#endif
