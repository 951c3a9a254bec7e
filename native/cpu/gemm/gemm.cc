// The entry of GEMM: checks the description, brings it to a form that the paths share, chooses one.
#include "gemm.h"

#include <utility>
#include <vector>

#include "core/errors.h"
#include "finish.h"
#include "integer.h"
#include "plan.h"

namespace mixprec::cpu {
namespace {

Source source_of(DType dtype, MatmulPrecision precision) {
  switch (dtype) {
    case DType::kFloat64:
      return Source::kFloat64;
    case DType::kFloat16:
      return Source::kFloat16;
    case DType::kBFloat16:
      return Source::kBFloat16;
    case DType::kFloat32:
      break;
    default:
      throw Error(ErrorCode::kInternal, "gemm got an integer among floats");
  }
  switch (precision) {
    case MatmulPrecision::kHigh:
      return Source::kFloat32AsTf32;
    case MatmulPrecision::kMedium:
      return Source::kFloat32AsBFloat16;
    case MatmulPrecision::kHighest:
      break;
  }
  return Source::kFloat32;
}

// The stride of a dimension of one element is free to choose: 1 opens the fast paths.
PanelSource panel_source(const GemmOperand& operand, bool is_lhs, int64_t extent, int64_t k,
                         MatmulPrecision precision) {
  PanelSource source;
  source.data = static_cast<const char*>(operand.data);
  source.source = source_of(operand.dtype, precision);
  source.extent_stride = is_lhs ? operand.row_stride : operand.col_stride;
  source.k_stride = is_lhs ? operand.col_stride : operand.row_stride;
  if (source.extent_stride != 1 && source.k_stride != 1) {
    if (k == 1) {
      source.k_stride = 1;
    } else if (extent == 1) {
      source.extent_stride = 1;
    }
  }
  return source;
}

template <class Acc>
std::vector<Acc> widened_bias(const GemmDesc& desc) {
  std::vector<Acc> values(static_cast<size_t>(desc.bias == nullptr ? 0 : desc.N));
  for (size_t j = 0; j < values.size(); ++j) {
    switch (desc.bias_dtype) {
      case DType::kFloat64:
        values[j] = static_cast<Acc>(static_cast<const double*>(desc.bias)[j]);
        break;
      case DType::kFloat32:
        values[j] = static_cast<const float*>(desc.bias)[j];
        break;
      case DType::kFloat16:
        values[j] = to_float(static_cast<const Float16*>(desc.bias)[j]);
        break;
      case DType::kBFloat16:
        values[j] = to_float(static_cast<const BFloat16*>(desc.bias)[j]);
        break;
      default:
        throw Error(ErrorCode::kInternal, "gemm got an integer bias among floats");
    }
  }
  return values;
}

// beta * out + bias.
template <class Acc>
void store_without_product(const GemmPlan<Acc>& plan) {
  const std::vector<Acc> zeros(static_cast<size_t>(plan.N));
  for (int64_t batch = 0; batch < plan.batch; ++batch) {
    StoreTarget<Acc> target = plan.target;
    target.out += batch * plan.out_batch_stride;
    store_rows(plan, target, plan.M, plan.N, zeros.data(), 0);
  }
}

// One column of the output, dense, is a row of its transpose; the bias is then one value for all.
template <class Acc>
bool transpose_column(GemmPlan<Acc>& plan, std::vector<Acc>& bias) {
  const bool lhs_dense = plan.lhs.k_stride == 1 || plan.lhs.extent_stride == 1;
  if (plan.N != 1 || plan.M == 1 || plan.target.row_stride != 1 || !lhs_dense) return false;
  if (plan.target.bias != nullptr) {
    bias.assign(static_cast<size_t>(plan.M), bias[0]);
    plan.target.bias = bias.data();
  }
  std::swap(plan.M, plan.N);
  std::swap(plan.lhs, plan.rhs);
  std::swap(plan.lhs_batch_stride, plan.rhs_batch_stride);
  plan.target.row_stride = plan.N;
  return true;
}

template <class Acc>
void multiply_floats(const GemmDesc& desc) {
  std::vector<Acc> bias = widened_bias<Acc>(desc);
  const auto item = [](DType dtype) { return static_cast<int64_t>(item_size(dtype)); };
  GemmPlan<Acc> plan;
  plan.M = desc.M;
  plan.N = desc.N;
  plan.K = desc.K;
  plan.batch = desc.batch;
  plan.lhs = panel_source(desc.lhs, true, desc.M, desc.K, desc.precision);
  plan.rhs = panel_source(desc.rhs, false, desc.N, desc.K, desc.precision);
  plan.lhs_batch_stride = desc.lhs.batch_stride * item(desc.lhs.dtype);
  plan.rhs_batch_stride = desc.rhs.batch_stride * item(desc.rhs.dtype);
  plan.out_batch_stride = desc.out_batch_stride * item(desc.out_dtype);
  plan.target.out = static_cast<char*>(desc.out);
  plan.target.dtype = desc.out_dtype;
  plan.target.row_stride = desc.out_row_stride;
  plan.target.alpha = static_cast<Acc>(desc.alpha);
  plan.target.beta = static_cast<Acc>(desc.beta);
  plan.target.bias = desc.bias == nullptr ? nullptr : bias.data();
  if (!desc.epilogue.is_plain()) plan.epilogue = &desc.epilogue;
  if (desc.K == 0) return store_without_product(plan);
  const bool rhs_dense = plan.rhs.k_stride == 1 || plan.rhs.extent_stride == 1;
  if ((plan.M == 1 && rhs_dense) || transpose_column(plan, bias)) return multiply_vector(plan);
  multiply_blocked(plan);
}

void multiply(const GemmDesc& given);

// The batches of a product one by one.
void multiply_each(const GemmDesc& desc) {
  const auto item = [](DType dtype) { return static_cast<int64_t>(item_size(dtype)); };
  GemmDesc one = desc;
  one.outer = 1;
  for (int64_t at = 0; at < desc.outer; ++at) {
    one.lhs.data =
        static_cast<const char*>(desc.lhs.data) + at * desc.lhs.outer_stride * item(desc.lhs.dtype);
    one.rhs.data =
        static_cast<const char*>(desc.rhs.data) + at * desc.rhs.outer_stride * item(desc.rhs.dtype);
    const int64_t offset = at * desc.out_outer_stride * item(desc.out_dtype);
    one.out = static_cast<char*>(desc.out) + offset;
    one.epilogue = desc.epilogue.moved(offset);
    multiply(one);
  }
}

void multiply(const GemmDesc& given) {
  if (given.outer != 1) return multiply_each(given);
  if (given.M == 0 || given.N == 0 || given.batch == 0) return;
  const GemmDesc desc = with_batch_as_rows(given);
  if (!is_floating(desc.out_dtype)) {
    check(desc.epilogue.is_plain(), "gemm got an epilogue for integers");
    return multiply_integers(desc);
  }
  const bool any_double = desc.lhs.dtype == DType::kFloat64 || desc.rhs.dtype == DType::kFloat64 ||
                          desc.out_dtype == DType::kFloat64;
  if (!any_double) return multiply_floats<float>(desc);
  check(desc.lhs.dtype == DType::kFloat64 && desc.rhs.dtype == DType::kFloat64 &&
            desc.out_dtype == DType::kFloat64,
        "gemm takes float64 with float64 only");
  multiply_floats<double>(desc);
}

}  // namespace

void gemm(const GemmDesc& desc) {
  multiply(desc);
  if (desc.epilogue.column_sums != nullptr) sum_columns(desc);
}

}  // namespace mixprec::cpu
