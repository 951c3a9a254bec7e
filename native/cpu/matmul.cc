// The matmul op, and how it is run.
#include "core/matmul.h"

#include <cstring>

#include "core/json.h"
#include "cpu_backend.h"
#include "gemm/gemm.h"
#include "gemm/kernels.h"
#include "strided.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

const char* path_name(GemmPath path) {
  switch (path) {
    case GemmPath::kBlocked:
      return "blocked";
    case GemmPath::kVector:
      return "vector";
    case GemmPath::kInteger:
      return "integer";
    case GemmPath::kNone:
      break;
  }
  return "none";
}

template <class Acc>
void put_tile(JsonObject& json) {
  const KernelTable<Acc>& kernels = gemm_kernels<Acc>();
  json.number("tileRows", kernels.tile_rows).number("tileCols", kernels.tile_cols);
}

std::string explain_product(const GemmDesc& desc) {
  const GemmPath path = gemm_path(desc);
  JsonObject json;
  json.text("kernel", path_name(path))
      .text("isa", isa_name(isa()))
      .number("threads", num_threads());
  json.number("M", static_cast<double>(desc.M)).number("N", static_cast<double>(desc.N));
  json.number("K", static_cast<double>(desc.K));
  json.number("batch", static_cast<double>(desc.batch * desc.outer));
  if (path == GemmPath::kBlocked) {
    if (desc.out_dtype == DType::kFloat64) {
      put_tile<double>(json);
    } else {
      put_tile<float>(json);
    }
  }
  return json.done();
}

}  // namespace

void CpuBackend::matmul(const OpCall& call) {
  run_matmul(
      call, [&](const Tensor& tensor) { return contiguous(*this, tensor); },
      [](const GemmDesc& desc) { gemm(desc); });
}

std::string CpuBackend::explain(const OpCall& call) {
  if (std::strcmp(call.name, "matmul") != 0) return Backend::explain(call);
  std::string first;
  int64_t products = 0;
  run_matmul(call, dense_like, [&](const GemmDesc& desc) {
    if (products++ == 0) first = explain_product(desc);
  });
  if (products == 0) return "null";
  return JsonObject()
      .number("products", static_cast<double>(products))
      .value("first", first)
      .done();
}

}  // namespace mixprec::cpu
