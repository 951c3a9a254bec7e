// unfold and fold against loops over single elements.
#include "testing.h"

using namespace mixprec;
using namespace mixprec::testing;

namespace {

struct Window {
  int64_t kh, kw, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;

  std::vector<double> attrs() const {
    const int64_t list[] = {kh,        kw,        stride_h,   stride_w,
                            padding_h, padding_w, dilation_h, dilation_w};
    return std::vector<double>(list, list + 8);
  }
};

int64_t windows(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  const int64_t span = size + 2 * padding - dilation * (kernel - 1) - 1;
  return span < 0 ? 0 : span / stride + 1;
}

// Calls body(column element, image element or -1 in the padding).
template <class Body>
void for_pairs(const Shape& image, const Window& w, const Body& body) {
  const int64_t oh = windows(image[2], w.kh, w.stride_h, w.padding_h, w.dilation_h);
  const int64_t ow = windows(image[3], w.kw, w.stride_w, w.padding_w, w.dilation_w);
  int64_t column = 0;
  for (int64_t plane = 0; plane < image[0] * image[1]; ++plane) {
    for (int64_t i = 0; i < w.kh; ++i) {
      for (int64_t j = 0; j < w.kw; ++j) {
        for (int64_t y = 0; y < oh; ++y) {
          for (int64_t x = 0; x < ow; ++x, ++column) {
            const int64_t row = y * w.stride_h - w.padding_h + i * w.dilation_h;
            const int64_t col = x * w.stride_w - w.padding_w + j * w.dilation_w;
            const bool inside = row >= 0 && row < image[2] && col >= 0 && col < image[3];
            body(column, inside ? (plane * image[2] + row) * image[3] + col : -1);
          }
        }
      }
    }
  }
}

Shape columns_shape(const Shape& image, const Window& w) {
  return {image[0], image[1] * w.kh * w.kw,
          windows(image[2], w.kh, w.stride_h, w.padding_h, w.dilation_h) *
              windows(image[3], w.kw, w.stride_w, w.padding_w, w.dilation_w)};
}

const std::vector<Shape> kImages = {{1, 1, 1, 1}, {2, 3, 7, 5}, {1, 2, 4, 9},
                                    {3, 1, 1, 8}, {0, 2, 4, 4}, {1, 2, 40, 50}};
const std::vector<Window> kWindows = {{1, 1, 1, 1, 0, 0, 1, 1}, {3, 3, 1, 1, 1, 1, 1, 1},
                                      {2, 3, 2, 1, 0, 2, 1, 1}, {3, 2, 1, 3, 4, 5, 2, 3},
                                      {1, 5, 4, 2, 0, 2, 1, 1}, {7, 7, 1, 1, 0, 0, 1, 1},
                                      {2, 2, 3, 3, 1, 1, 5, 4}, {3, 3, 9, 9, 8, 8, 1, 1}};

Values whole_values(int64_t count, Random& random, int64_t bound) {
  Values values(static_cast<size_t>(count));
  for (double& value : values) value = static_cast<double>(random.below(bound));
  return values;
}

TEST("unfold takes every window of every dtype and layout, with zeros in the padding") {
  Random random(1);
  for (const DType dtype : kAllDTypes) {
    for (const Shape& image : kImages) {
      const Values values = whole_values(count_of(image), random, dtype == DType::kBool ? 2 : 100);
      const Tensor x = make_tensor(dtype, image, values);
      for (const Window& window : kWindows) {
        const Shape shape = columns_shape(image, window);
        Values expected(static_cast<size_t>(count_of(shape)), 0.0);
        for_pairs(image, window, [&](int64_t column, int64_t element) {
          if (element < 0) return;
          expected[static_cast<size_t>(column)] = values[static_cast<size_t>(element)];
        });
        expect_values(run("unfold", {x}, window.attrs(), dtype, shape), expected, "unfold");
        expect_values(run("unfold", {scattered(x)}, window.attrs(), dtype, shape), expected,
                      "unfold, scattered");
      }
    }
  }
}

TEST("fold adds every window back, in every float dtype and layout") {
  Random random(2);
  for (const DType dtype : kFloats) {
    for (const Shape& image : kImages) {
      for (const Window& window : kWindows) {
        const Shape shape = columns_shape(image, window);
        const Values values = whole_values(count_of(shape), random, 4);
        Values sums(static_cast<size_t>(count_of(image)), 0.0);
        for_pairs(image, window, [&](int64_t column, int64_t element) {
          if (element < 0) return;
          sums[static_cast<size_t>(element)] += values[static_cast<size_t>(column)];
        });
        for (double& sum : sums) sum = rounded(sum, dtype);
        const Tensor columns = make_tensor(dtype, shape, values);
        expect_values(run("fold", {columns}, window.attrs(), dtype, image), sums, "fold");
        expect_values(run("fold", {scattered(columns)}, window.attrs(), dtype, image), sums,
                      "fold, scattered");
      }
    }
  }
}

TEST("fold adds 16-bit floats in float32 and rounds once") {
  // 19 x 19 windows overlap in the middle: 361 ones, beyond where bfloat16 counts.
  const Shape image = {1, 1, 37, 37};
  const Window window = {19, 19, 1, 1, 0, 0, 1, 1};
  const Shape shape = columns_shape(image, window);
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    const Tensor ones = make_tensor(dtype, shape, Values(static_cast<size_t>(count_of(shape)), 1));
    const Tensor sums = run("fold", {ones}, window.attrs(), dtype, image);
    EXPECT_EQ(values_of(sums)[18 * 37 + 18], rounded(361, dtype));
  }
}

TEST("both are the same with any number of threads") {
  Random random(3);
  const Shape image = {4, 8, 30, 31};
  const Window window = {3, 3, 1, 1, 1, 1, 1, 1};
  const Shape shape = columns_shape(image, window);
  const Tensor x = random_tensor(DType::kFloat32, image, random);
  const Tensor columns = random_tensor(DType::kFloat32, shape, random);
  cpu::set_num_threads(1);
  const Tensor unfolded = run("unfold", {x}, window.attrs(), DType::kFloat32, shape);
  const Tensor folded = run("fold", {columns}, window.attrs(), DType::kFloat32, image);
  cpu::set_num_threads(6);
  EXPECT(same_bits(unfolded, run("unfold", {x}, window.attrs(), DType::kFloat32, shape)), "unfold");
  EXPECT(same_bits(folded, run("fold", {columns}, window.attrs(), DType::kFloat32, image)), "fold");
}

TEST("a window that makes no sense is refused") {
  const Tensor x = make_tensor(DType::kFloat32, {1, 1, 4, 4}, Values(16, 1.0));
  for (const Window& bad : {Window{0, 1, 1, 1, 0, 0, 1, 1}, Window{1, 1, 0, 1, 0, 0, 1, 1},
                            Window{1, 1, 1, 1, -1, 0, 1, 1}, Window{1, 1, 1, 1, 0, 0, 1, 0}}) {
    EXPECT_ERROR(ErrorCode::kInternal, "window",
                 run("unfold", {x}, bad.attrs(), DType::kFloat32, {1, 1, 16}));
  }
  EXPECT_ERROR(
      ErrorCode::kInternal, "shape",
      run("unfold", {x}, Window{1, 1, 1, 1, 0, 0, 1, 1}.attrs(), DType::kFloat32, {1, 1, 15}));
}

}  // namespace
