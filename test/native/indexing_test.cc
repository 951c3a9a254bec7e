// cat, index_select, index_add, gather, scatter_add, embedding and its gradient, against loops over
// single elements.
#include "testing.h"

using namespace mixprec;
using namespace mixprec::testing;

namespace {

// Position of an element by its coordinates.
int64_t position(const Shape& shape, const Shape& at) {
  int64_t result = 0;
  for (size_t d = 0; d < shape.size(); ++d) result = result * shape[d] + at[d];
  return result;
}
Shape coordinates(const Shape& shape, int64_t index) {
  Shape at(shape.size());
  for (size_t d = shape.size(); d-- > 0;) {
    at[d] = index % shape[d];
    index /= shape[d];
  }
  return at;
}
Shape with_extent(Shape shape, size_t dim, int64_t extent) {
  shape[dim] = extent;
  return shape;
}

Values random_indices(int64_t count, int64_t bound, Random& random) {
  Values values(static_cast<size_t>(count));
  for (double& value : values) value = static_cast<double>(random.below(bound));
  return values;
}

// Small whole numbers, whose sums float32 and the integers hold exactly.
Tensor whole_tensor(DType dtype, const Shape& shape, Random& random) {
  Values values(static_cast<size_t>(count_of(shape)));
  const int64_t bound = dtype == DType::kBool || dtype == DType::kInt8 ? 2 : 5;
  for (double& value : values) value = static_cast<double>(random.below(bound));
  return make_tensor(dtype, shape, values);
}

// Calls body(tensor) for the tensor itself and for the same elements in other layouts.
template <class Body>
void in_layouts(const Tensor& tensor, const Body& body) {
  body(tensor);
  body(scattered(tensor));
}

const std::vector<Shape> kShapes = {{5}, {1}, {4, 3}, {3, 1, 6}, {2, 5, 3, 4}, {70, 33}, {3, 0, 2}};

std::string label(DType dtype, const Shape& shape, size_t dim) {
  std::string text = std::string(dtype_name(dtype)) + " [";
  for (const int64_t extent : shape) text += std::to_string(extent) + " ";
  return text + "] along " + std::to_string(dim);
}

TEST("cat joins tensors of every dtype and layout along every dimension") {
  Random random(1);
  for (const DType dtype : kAllDTypes) {
    for (const Shape& shape : kShapes) {
      for (size_t dim = 0; dim < shape.size(); ++dim) {
        std::vector<Tensor> parts;
        Shape joined = shape;
        joined[dim] = 0;
        for (const int64_t extent : {shape[dim], int64_t{0}, int64_t{2}, int64_t{7}}) {
          const Tensor part = whole_tensor(dtype, with_extent(shape, dim, extent), random);
          parts.push_back(parts.size() % 2 == 0 ? part : scattered(part));
          joined[dim] += extent;
        }
        Values expected(static_cast<size_t>(count_of(joined)));
        int64_t start = 0;
        for (const Tensor& part : parts) {
          const Values values = values_of(part);
          for (int64_t i = 0; i < part.numel(); ++i) {
            Shape at = coordinates(shape_of(part), i);
            at[dim] += start;
            expected[static_cast<size_t>(position(joined, at))] = values[static_cast<size_t>(i)];
          }
          start += part.shape[dim];
        }
        expect_values(run("cat", parts, {static_cast<double>(dim)}, dtype, joined), expected,
                      "cat " + label(dtype, shape, dim));
      }
    }
  }
}

TEST("index_select and index_add agree with loops, in every dtype and layout") {
  Random random(2);
  for (const DType dtype : kAllDTypes) {
    for (const Shape& shape : kShapes) {
      for (size_t dim = 0; dim < shape.size(); ++dim) {
        for (const int64_t n : {0, 1, 5, 90}) {
          if (shape[dim] == 0 && n > 0) continue;
          const double along = static_cast<double>(dim);
          const Tensor index =
              make_tensor(DType::kInt64, {n}, random_indices(n, shape[dim] + (n == 0), random));
          const Values chosen = values_of(index);
          const Shape selected = with_extent(shape, dim, n);
          const Tensor x = whole_tensor(dtype, shape, random);
          const Tensor source = whole_tensor(dtype, selected, random);
          const Values from = values_of(x);
          const Values terms = values_of(source);
          Values taken(static_cast<size_t>(count_of(selected)));
          Values sums(static_cast<size_t>(count_of(shape)), 0.0);
          for (int64_t i = 0; i < count_of(selected); ++i) {
            Shape at = coordinates(selected, i);
            at[dim] = static_cast<int64_t>(chosen[static_cast<size_t>(at[dim])]);
            const auto place = static_cast<size_t>(position(shape, at));
            taken[static_cast<size_t>(i)] = from[place];
            sums[place] += terms[static_cast<size_t>(i)];
          }
          for (double& sum : sums) sum = rounded(sum, dtype);
          in_layouts(index, [&](const Tensor& positions) {
            in_layouts(x, [&](const Tensor& view) {
              expect_values(run("index_select", {view, positions}, {along}, dtype, selected), taken,
                            "index_select " + label(dtype, shape, dim));
            });
            in_layouts(source, [&](const Tensor& view) {
              expect_values(run("index_add", {view, positions}, {along}, dtype, shape), sums,
                            "index_add " + label(dtype, shape, dim));
            });
          });
        }
      }
    }
  }
}

TEST("gather and scatter_add agree with loops, with an index smaller than the tensor") {
  Random random(3);
  for (const DType dtype : kAllDTypes) {
    for (const Shape& shape : {Shape{6}, Shape{4, 7}, Shape{3, 2, 300}, Shape{2, 3, 4, 5}}) {
      for (size_t dim = 0; dim < shape.size(); ++dim) {
        for (const bool smaller : {false, true}) {
          const double along = static_cast<double>(dim);
          Shape index_shape = with_extent(shape, dim, 5);
          Shape source_shape = index_shape;
          if (smaller) {
            for (size_t d = 0; d < shape.size(); ++d) {
              if (d != dim && index_shape[d] > 1) --index_shape[d];
              ++source_shape[d];
            }
          }
          const int64_t count = count_of(index_shape);
          const Tensor index =
              make_tensor(DType::kInt64, index_shape, random_indices(count, shape[dim], random));
          const Tensor x = whole_tensor(dtype, shape, random);
          const Tensor source = whole_tensor(dtype, source_shape, random);
          const Values chosen = values_of(index);
          const Values from = values_of(x);
          const Values terms = values_of(source);
          Values taken(static_cast<size_t>(count));
          Values sums = from;
          for (int64_t i = 0; i < count; ++i) {
            Shape at = coordinates(index_shape, i);
            const double term = terms[static_cast<size_t>(position(source_shape, at))];
            at[dim] = static_cast<int64_t>(chosen[static_cast<size_t>(i)]);
            const auto place = static_cast<size_t>(position(shape, at));
            taken[static_cast<size_t>(i)] = from[place];
            sums[place] += term;
          }
          for (double& sum : sums) sum = rounded(sum, dtype);
          in_layouts(index, [&](const Tensor& positions) {
            in_layouts(x, [&](const Tensor& view) {
              expect_values(run("gather", {view, positions}, {along}, dtype, index_shape), taken,
                            "gather " + label(dtype, shape, dim));
              in_layouts(source, [&](const Tensor& added) {
                expect_values(run("scatter_add", {view, positions, added}, {along}, dtype, shape),
                              sums, "scatter_add " + label(dtype, shape, dim));
              });
            });
          });
        }
      }
    }
  }
}

TEST("scalars count as one element") {
  const Tensor x = make_tensor(DType::kFloat32, {}, {3.5});
  const Tensor zero = make_tensor(DType::kInt64, {}, {0});
  expect_values(run("gather", {x, zero}, {0}, DType::kFloat32, {}), {3.5}, "gather");
  expect_values(run("scatter_add", {x, zero, x}, {0}, DType::kFloat32, {}), {7}, "scatter_add");
  expect_values(run("index_select", {x, zero}, {0}, DType::kFloat32, {}), {3.5}, "index_select");
}

TEST("an empty index selects nothing and adds nothing") {
  const Tensor none = make_tensor(DType::kInt64, {0}, {});
  const Tensor x = make_tensor(DType::kFloat16, {3}, {1, 2, 3});
  const Tensor empty = make_tensor(DType::kFloat16, {0}, {});
  expect_values(run("gather", {x, none}, {0}, DType::kFloat16, {0}), {}, "gather");
  expect_values(run("scatter_add", {x, none, empty}, {0}, DType::kFloat16, {3}), {1, 2, 3},
                "scatter_add");
  expect_values(run("embedding_grad", {make_tensor(DType::kFloat32, {0, 2}, {}), none}, {-1},
                    DType::kFloat32, {2, 2}),
                {0, 0, 0, 0}, "embedding_grad");
}

TEST("embedding takes rows, and its gradient adds them back, but for the padding index") {
  Random random(4);
  for (const DType dtype : kFloats) {
    for (const int64_t D : {1, 7, 768, 2500}) {
      const int64_t V = 37;
      const Shape ids_shape = {3, 11};
      const Tensor weight = random_tensor(dtype, {V, D}, random);
      const Tensor ids = make_tensor(DType::kInt64, ids_shape, random_indices(33, V, random));
      const Values rows = values_of(ids);
      const Values from = values_of(weight);
      Values taken;
      for (const double row : rows) {
        for (int64_t j = 0; j < D; ++j) {
          taken.push_back(from[static_cast<size_t>(static_cast<int64_t>(row) * D + j)]);
        }
      }
      const Shape out_shape = {3, 11, D};
      in_layouts(weight, [&](const Tensor& view) {
        expect_values(run("embedding", {view, scattered(ids)}, {}, dtype, out_shape), taken,
                      "embedding");
      });
      const Tensor grad = whole_tensor(dtype, out_shape, random);
      const Values terms = values_of(grad);
      for (const int64_t padding : {int64_t{-1}, static_cast<int64_t>(rows[0])}) {
        Values sums(static_cast<size_t>(V * D), 0.0);
        for (size_t i = 0; i < rows.size(); ++i) {
          if (static_cast<int64_t>(rows[i]) == padding) continue;
          for (int64_t j = 0; j < D; ++j) {
            sums[static_cast<size_t>(static_cast<int64_t>(rows[i]) * D + j)] +=
                terms[i * static_cast<size_t>(D) + static_cast<size_t>(j)];
          }
        }
        in_layouts(grad, [&](const Tensor& view) {
          expect_values(
              run("embedding_grad", {view, ids}, {static_cast<double>(padding)}, dtype, {V, D}),
              sums, "embedding_grad");
        });
      }
    }
  }
}

TEST("sums of 16-bit floats are made in float32 and rounded once") {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    const int64_t n = 5000;
    const Tensor index = make_tensor(DType::kInt64, {n}, Values(n, 1.0));
    const Tensor ones = make_tensor(dtype, {n}, Values(n, 1.0));
    const double sum = rounded(static_cast<double>(n), dtype);
    expect_values(run("index_add", {ones, index}, {0}, dtype, {2}), {0, sum}, "index_add");
    const Tensor zeros = make_tensor(dtype, {2}, {0, 0});
    expect_values(run("scatter_add", {zeros, index, ones}, {0}, dtype, {2}), {0, sum},
                  "scatter_add");
    const Tensor rows = make_tensor(dtype, {n, 3}, Values(n * 3, 1.0));
    expect_values(run("embedding_grad", {rows, index}, {-1}, dtype, {2, 3}),
                  {0, 0, 0, sum, sum, sum}, "embedding_grad");
  }
}

TEST("integers wrap around") {
  const Tensor index = make_tensor(DType::kInt64, {2}, {0, 0});
  const Tensor bytes = make_tensor(DType::kInt8, {2}, {100, 100});
  expect_values(run("index_add", {bytes, index}, {0}, DType::kInt8, {1}), {-56}, "index_add");
  expect_values(run("scatter_add", {make_tensor(DType::kInt8, {1}, {1}), index, bytes}, {0},
                    DType::kInt8, {1}),
                {-55}, "scatter_add");
}

TEST("results are the same bit for bit with any number of threads") {
  Random random(5);
  const int64_t V = 50, D = 96, n = 4000;
  const Tensor ids = make_tensor(DType::kInt64, {n}, random_indices(n, V, random));
  const Tensor grad = random_tensor(DType::kFloat32, {n, D}, random);
  const Tensor x = random_tensor(DType::kFloat32, {40, 3, 500}, random);
  const Tensor index =
      make_tensor(DType::kInt64, {40, 9, 500}, random_indices(40 * 9 * 500, 3, random));
  const Tensor source = random_tensor(DType::kFloat32, {40, 9, 500}, random);
  std::vector<Tensor> first;
  for (const int threads : {1, 2, 3, 8}) {
    cpu::set_num_threads(threads);
    const std::vector<Tensor> results = {
        run("embedding_grad", {grad, ids}, {-1}, DType::kFloat32, {V, D}),
        run("index_add", {grad, ids}, {0}, DType::kFloat32, {V, D}),
        run("scatter_add", {x, index, source}, {1}, DType::kFloat32, {40, 3, 500})};
    if (first.empty()) first = results;
    for (size_t i = 0; i < results.size(); ++i) {
      EXPECT(same_bits(results[i], first[i]), shown(i) + " on " + shown(threads));
    }
  }
}

TEST("an index out of range is an ArgumentError that names it, the bound and the place") {
  const Tensor x = make_tensor(DType::kFloat32, {4, 2}, Values(8, 1.0));
  for (const double bad : {4.0, -1.0, 1e15}) {
    const Tensor index = make_tensor(DType::kInt64, {3}, {0, 3, bad});
    const std::string got = "got " + std::to_string(static_cast<int64_t>(bad)) + " at position 2";
    const Tensor source = make_tensor(DType::kFloat32, {3, 2}, Values(6, 1.0));
    EXPECT_ERROR(ErrorCode::kArgument, got,
                 run("index_select", {x, index}, {0}, DType::kFloat32, {3, 2}));
    EXPECT_ERROR(ErrorCode::kArgument, got,
                 run("embedding", {x, index}, {}, DType::kFloat32, {3, 2}));
    EXPECT_ERROR(ErrorCode::kArgument, got,
                 run("embedding_grad", {source, index}, {-1}, DType::kFloat32, {4, 2}));
    EXPECT_ERROR(ErrorCode::kArgument, got,
                 run("index_add", {source, index}, {0}, DType::kFloat32, {4, 2}));
    const Tensor column = make_tensor(DType::kInt64, {3, 1}, {0, 3, bad});
    EXPECT_ERROR(ErrorCode::kArgument, got,
                 run("gather", {x, column}, {0}, DType::kFloat32, {3, 1}));
    EXPECT_ERROR(ErrorCode::kArgument, got,
                 run("scatter_add", {x, column, source}, {0}, DType::kFloat32, {4, 2}));
    EXPECT_ERROR(ErrorCode::kArgument, "0 to 3 (the dimension is 4)",
                 run("index_select", {x, index}, {0}, DType::kFloat32, {3, 2}));
  }
  EXPECT_ERROR(ErrorCode::kArgument, "empty",
               run("index_select",
                   {make_tensor(DType::kFloat32, {0}, {}), make_tensor(DType::kInt64, {1}, {0})},
                   {0}, DType::kFloat32, {1}));
}

TEST("a bad index is found among many, on several threads") {
  cpu::set_num_threads(4);
  Values indices(200000, 0.0);
  indices[123456] = 9;
  EXPECT_ERROR(ErrorCode::kArgument, "got 9 at position 123456",
               run("index_select",
                   {make_tensor(DType::kUInt8, {9}, Values(9, 1.0)),
                    make_tensor(DType::kInt64, {200000}, indices)},
                   {0}, DType::kUInt8, {200000}));
}

}  // namespace
