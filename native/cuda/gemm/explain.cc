// How a product would be made, as JSON: the choice, what it was chosen among, and what cannot make
// it.

#include <cstring>

#include "choose.h"
#include "core/json.h"
#include "core/matmul.h"
#include "families.h"

namespace mixprec::cuda {
namespace {

std::string json_of(const GemmRanked& row) {
  const GemmEstimate& time = row.estimate;
  JsonObject json;
  json.text("family", family_name(row.config.family)).number("variant", row.config.variant);
  json.number("tileRows", row.tile.m)
      .number("tileCols", row.tile.n)
      .number("depth", row.tile.depth);
  json.number("cluster", row.tile.cluster).number("splits", row.config.splits);
  json.flag("swapped", row.config.swapped).number("blocks", static_cast<double>(time.blocks));
  json.number("waves", time.waves).number("seconds", time.seconds);
  json.number("compute", time.compute).number("memory", time.memory).number("cache", time.cache);
  return json.number("extra", time.extra).done();
}

std::string json_of(const GemmRejection& rejection) {
  JsonObject json;
  json.text("family", family_name(rejection.family)).number("variant", rejection.variant);
  return json.text("reason", rejection.reason).done();
}

// The row that a measurement chose, in front of what the model would have.
bool bring_forward(std::vector<GemmRanked>& ranked, const GemmConfig& chosen, const GemmDesc& desc,
                   const api::DeviceProperties& device) {
  for (size_t i = 0; i < ranked.size(); ++i) {
    if (ranked[i].config.family != chosen.family || ranked[i].config.variant != chosen.variant) {
      continue;
    }
    GemmRanked row = ranked[i];
    row.config = chosen;
    row.estimate = estimate(desc, row.tile, chosen, device);
    ranked.erase(ranked.begin() + static_cast<std::ptrdiff_t>(i));
    ranked.insert(ranked.begin(), row);
    return true;
  }
  return false;
}

std::string explain_product(CudaBackend& backend, const GemmDesc& given) {
  const GemmDesc desc = with_batch_as_rows(given);
  const api::DeviceProperties& device = backend.properties();
  const bool empty = desc.M == 0 || desc.N == 0 || desc.batch == 0 || desc.outer == 0;
  const GemmOffer offer = empty ? GemmOffer() : gemm_offer(desc, device);
  std::vector<GemmRanked> ranked = rank(desc, offer.tiles, device);
  const std::optional<GemmConfig> known = remembered_gemm(backend, desc);
  const bool measured =
      autotunes() && known.has_value() && bring_forward(ranked, *known, desc, device);
  JsonObject json;
  json.text("device", device.name).flag("measured", measured);
  json.number("M", static_cast<double>(desc.M)).number("N", static_cast<double>(desc.N));
  json.number("K", static_cast<double>(desc.K));
  json.number("batch", static_cast<double>(desc.batch * desc.outer));
  json.number("peakFlops", peak_flops(desc, device));
  json.number("multiprocessors", device.multiprocessors);
  std::string rows, rejections;
  for (const GemmRanked& row : ranked) append_json(rows, json_of(row));
  for (const GemmRejection& rejection : offer.rejections) {
    append_json(rejections, json_of(rejection));
  }
  return json.value("ranked", "[" + rows + "]").value("rejected", "[" + rejections + "]").done();
}

}  // namespace

std::string CudaBackend::explain(const OpCall& call) {
  if (std::strcmp(call.name, "matmul") != 0) return Backend::explain(call);
  std::string first;
  int64_t products = 0;
  run_matmul(call, dense_like, [&](const GemmDesc& desc) {
    if (products++ == 0) first = explain_product(*this, desc);
  });
  if (products == 0) return "null";
  return JsonObject()
      .number("products", static_cast<double>(products))
      .value("first", first)
      .done();
}

}  // namespace mixprec::cuda
