// Picking and adding single elements by index along a dimension. Sums at one place are made in the
// order of the index, in float32 for 16-bit floats, and rounded once.

#include <algorithm>
#include <utility>
#include <vector>

#include "along_dim.h"
#include "cpu_backend.h"
#include "row_io.h"
#include "strided.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

// How the elements of an index [outer, n, inner] find theirs in another tensor, that is at least as
// large in every dimension but `dim`: offsets for each outer and inner position.
struct Lines {
  int64_t outer = 1;
  int64_t n = 1;
  int64_t inner = 1;
  int64_t stride = 0;  // along dim
  std::vector<int64_t> outer_offsets;
  std::vector<int64_t> inner_offsets;

  Lines(const Tensor& index, const Tensor& other, int32_t dim) {
    check(index.rank == other.rank || index.rank == 0 || other.rank == 0,
          "an index of another number of dimensions");
    const AlongDim layout(index, dim);
    outer = layout.outer;
    n = layout.extent;
    inner = layout.inner;
    if (other.rank > 0) stride = other.strides[dim];
    if (index.rank == 0 || other.rank == 0) {
      outer_offsets.assign(static_cast<size_t>(outer), 0);
      inner_offsets.assign(static_cast<size_t>(inner), 0);
      return;
    }
    for (int32_t d = 0; d < index.rank; ++d) {
      check(d == dim || index.shape[d] <= other.shape[d], "an index larger than its tensor");
    }
    outer_offsets = offsets(index, other, 0, dim);
    inner_offsets = offsets(index, other, dim + 1, index.rank);
  }

 private:
  static std::vector<int64_t> offsets(const Tensor& index, const Tensor& other, int32_t from,
                                      int32_t to) {
    std::vector<int64_t> result{0};
    for (int32_t d = from; d < to; ++d) {
      std::vector<int64_t> longer;
      longer.reserve(result.size() * static_cast<size_t>(index.shape[d]));
      for (const int64_t offset : result) {
        for (int64_t i = 0; i < index.shape[d]; ++i) {
          longer.push_back(offset + i * other.strides[d]);
        }
      }
      result = std::move(longer);
    }
    return result;
  }
};

// Calls body(index position, offset in the other tensor) for every element, in an order that is the
// same for all elements of a line along the dimension.
template <class Body>
void for_each_indexed(const Lines& lines, const int64_t* index, const Body& body) {
  // Blocks of the inner positions, so that one outer position can be shared out too.
  const int64_t width = std::min<int64_t>(lines.inner, 256);
  const int64_t blocks = (lines.inner + width - 1) / width;
  parallel_for(lines.outer * blocks, row_grain(lines.n * width), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t outer = task / blocks;
      const int64_t first = task % blocks * width;
      const int64_t last = std::min(lines.inner, first + width);
      const int64_t base = lines.outer_offsets[static_cast<size_t>(outer)];
      for (int64_t j = 0; j < lines.n; ++j) {
        const int64_t row = (outer * lines.n + j) * lines.inner;
        for (int64_t k = first; k < last; ++k) {
          const int64_t offset = lines.inner_offsets[static_cast<size_t>(k)];
          body(row + k, base + index[row + k] * lines.stride + offset);
        }
      }
    }
  });
}

// The first elements of every dimension: the part of `tensor` that has the shape of `like`.
Tensor leading_part(const Tensor& tensor, const Tensor& like) {
  if (tensor.rank != like.rank) {
    check(tensor.numel() >= 1 && like.numel() <= 1, "a source of another number of dimensions");
    return tensor;
  }
  Tensor part = tensor;
  for (int32_t d = 0; d < part.rank; ++d) {
    check(like.shape[d] <= part.shape[d], "a source smaller than its index");
    part.shape[d] = like.shape[d];
  }
  return part;
}

template <class T>
T sum_of(T a, T b) {
  return a + b;
}
// Whole numbers wrap around.
int64_t sum_of(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

template <class T>
void scatter_sum(Backend& backend, const OpCall& call, const Tensor& index, int32_t dim) {
  const Tensor& out = call.out();
  constexpr DType kArithmetic = kArithmeticDType<T>;
  const bool direct = out.dtype == kArithmetic;
  const Tensor total = direct ? out : allocate_tensor(backend, kArithmetic, out.shape, out.rank);
  copy_elements(total, call.in(0));
  if (index.numel() > 0) {
    const Tensor source = contiguous_as(backend, leading_part(call.in(2), index), kArithmetic);
    const T* from = source.as<T>();
    T* to = total.as<T>();
    for_each_indexed(
        Lines(index, total, dim), index.as<int64_t>(),
        [=](int64_t at, int64_t target) { to[target] = sum_of(to[target], from[at]); });
  }
  if (!direct) copy_elements(out, total);
}

}  // namespace

void CpuBackend::gather(const OpCall& call) {
  const Tensor& x = call.in(0);
  const auto dim = static_cast<int32_t>(call.int_attr(0));
  const Tensor index = checked_indices(*this, call.in(1), AlongDim(x, dim).extent);
  check(call.out().dtype == x.dtype && call.out().numel() == index.numel(),
        "gather got an output of another size");
  if (index.numel() == 0) return;
  by_size(x.dtype, [&]<class T>(T) {
    const T* from = x.as<T>();
    T* to = call.out().as<T>();
    for_each_indexed(Lines(index, x, dim), index.as<int64_t>(),
                     [=](int64_t at, int64_t source) { to[at] = from[source]; });
  });
}

void CpuBackend::scatter_add(const OpCall& call) {
  const auto dim = static_cast<int32_t>(call.int_attr(0));
  const Tensor index = checked_indices(*this, call.in(1), AlongDim(call.out(), dim).extent);
  if (is_floating(call.out().dtype)) {
    by_arithmetic(call.out().dtype, [&]<class T>(T) { scatter_sum<T>(*this, call, index, dim); });
  } else {
    scatter_sum<int64_t>(*this, call, index, dim);
  }
}

}  // namespace mixprec::cpu
