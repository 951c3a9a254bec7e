// Tensor maps by the driver, whose encoder is looked up at run time: nothing links against it.
#if !defined(MIXPREC_CUDA_EMULATED)
#include "tensor_map.h"

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <cstring>

namespace mixprec::cuda::api {
namespace {

using Encode = PFN_cuTensorMapEncodeTiled_v12000;
constexpr unsigned kDriverVersion = 12000;

// The encoder; null, and why, where the driver has none.
Encode find_encoder(Code* code) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  *code = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kDriverVersion,
                                           cudaEnableDefault, &found);
  if (*code == kSuccess && found != cudaDriverEntryPointSuccess) *code = kInsufficientDriver;
  return *code == kSuccess ? reinterpret_cast<Encode>(function) : nullptr;
}

bool data_type(const TensorMapDesc& desc, CUtensorMapDataType* type) {
  switch (desc.dtype) {
    case DType::kFloat64:
      *type = CU_TENSOR_MAP_DATA_TYPE_FLOAT64;
      return true;
    case DType::kFloat32:
      *type = desc.as_tf32 ? CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
      return true;
    case DType::kFloat16:
      *type = CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
      return true;
    case DType::kBFloat16:
      *type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
      return true;
    case DType::kInt64:
      *type = CU_TENSOR_MAP_DATA_TYPE_INT64;
      return true;
    case DType::kInt32:
      *type = CU_TENSOR_MAP_DATA_TYPE_INT32;
      return true;
    case DType::kInt8:
    case DType::kUInt8:
    case DType::kBool:
      *type = CU_TENSOR_MAP_DATA_TYPE_UINT8;
      return true;
  }
  return false;
}

CUtensorMapSwizzle swizzle_mode(Swizzle swizzle) {
  switch (swizzle) {
    case Swizzle::k128Bytes:
      return CU_TENSOR_MAP_SWIZZLE_128B;
    case Swizzle::k64Bytes:
      return CU_TENSOR_MAP_SWIZZLE_64B;
    case Swizzle::k32Bytes:
      return CU_TENSOR_MAP_SWIZZLE_32B;
    case Swizzle::kNone:
      break;
  }
  return CU_TENSOR_MAP_SWIZZLE_NONE;
}

}  // namespace

Code encode_tensor_map(TensorMap* map, const TensorMapDesc& desc) {
  static_assert(sizeof(TensorMap) == sizeof(CUtensorMap));
  Code code = kSuccess;
  static const Encode encode = find_encoder(&code);
  if (encode == nullptr) return code == kSuccess ? kInsufficientDriver : code;
  CUtensorMapDataType type;
  if (desc.rank < 1 || desc.rank > 5 || !data_type(desc, &type)) return kInvalidValue;
  cuuint64_t extents[5];
  cuuint64_t strides[5];
  cuuint32_t box[5];
  const cuuint32_t steps[5] = {1, 1, 1, 1, 1};
  for (int dim = 0; dim < desc.rank; ++dim) {
    extents[dim] = desc.extents[dim];
    box[dim] = desc.box[dim];
    if (dim > 0) strides[dim - 1] = desc.byte_strides[dim];
  }
  CUtensorMap encoded;
  const CUresult result = encode(
      &encoded, type, static_cast<cuuint32_t>(desc.rank), const_cast<void*>(desc.data), extents,
      strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle_mode(desc.swizzle),
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) return kInvalidValue;
  std::memcpy(map->opaque, &encoded, sizeof(encoded));
  return kSuccess;
}

}  // namespace mixprec::cuda::api
#endif
