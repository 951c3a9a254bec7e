// Philox4x32-10 against the known answers of Random123 (kat_vectors), and the sequences made of it.
#include "core/philox.h"

#include "testing.h"

using namespace mixprec;
using namespace mixprec::testing;

namespace {

struct KnownAnswer {
  uint32_t counter[4];
  uint32_t key[2];
  uint32_t words[4];
};
constexpr KnownAnswer kKnownAnswers[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    // Digits of pi.
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

TEST("the known answers of Random123") {
  const auto joined = [](uint32_t low, uint32_t high) {
    return (static_cast<uint64_t>(high) << 32) | low;
  };
  for (const KnownAnswer& known : kKnownAnswers) {
    const PhiloxBlock block =
        philox(joined(known.key[0], known.key[1]), joined(known.counter[0], known.counter[1]),
               joined(known.counter[2], known.counter[3]));
    for (int i = 0; i < 4; ++i) EXPECT_EQ(block.words[i], known.words[i]);
  }
}

TEST("the kernels' words are those of single counters, from any first word and across carries") {
  const uint64_t offsets[] = {0, 5, 0xfffffff0u, 0xfffffffffffffff8u};
  for (const cpu::Isa level : isa_levels()) {
    for (const uint64_t seed : {uint64_t{0}, uint64_t{42}, ~uint64_t{0}, uint64_t{1} << 40}) {
      for (const uint64_t offset : offsets) {
        for (const int64_t first : {0, 1, 2, 3, 4, 130}) {
          for (const int64_t n : {0, 1, 3, 127, 128, 129, 500}) {
            std::vector<uint32_t> words(static_cast<size_t>(n) + 1, 0xabcdefu);
            pointwise_kernels(level).random_words(seed, offset, first, words.data(), n);
            for (int64_t i = 0; i < n; ++i) {
              const auto at = static_cast<uint64_t>(first + i);
              EXPECT_EQ(words[static_cast<size_t>(i)], philox_word(seed, offset, at));
            }
            EXPECT_EQ(words[static_cast<size_t>(n)], 0xabcdefu);
          }
        }
      }
    }
  }
}

TEST("uniform numbers lie on [0, 1), and their extremes are exact") {
  EXPECT_EQ(uniform24(0), 0.0f);
  EXPECT_EQ(uniform24(0xffffffffu), 1.0f - 0x1p-24f);
  EXPECT_EQ(uniform53(0, 0), 0.0);
  EXPECT_EQ(uniform53(0xffffffffu, 0xffffffffu), 1.0 - 0x1p-53);
}

TEST("normals are those of Box and Muller over pairs of words, the same at every level") {
  const int64_t n = 40000;
  std::vector<float> reference;
  for (const cpu::Isa level : isa_levels()) {
    std::vector<float> normals(n);
    pointwise_kernels(level).random_normal(3, 17, 0, normals.data(), n);
    if (reference.empty()) reference = normals;
    EXPECT(std::memcmp(normals.data(), reference.data(), n * sizeof(float)) == 0,
           cpu::isa_name(level));
    // A part of the sequence, of odd length, is the same as the whole has there.
    std::vector<float> part(777);
    pointwise_kernels(level).random_normal(3, 17, 1000, part.data(), 777);
    EXPECT(std::memcmp(part.data(), normals.data() + 1000, part.size() * sizeof(float)) == 0,
           cpu::isa_name(level));
  }
  double sum = 0, squares = 0, fourth = 0;
  for (int64_t i = 0; i < n; i += 2) {
    const auto at = static_cast<uint64_t>(i);
    const double u = (static_cast<double>(philox_word(3, 17, at) >> 8) + 1) * 0x1p-24;
    const double turns = static_cast<double>(philox_word(3, 17, at + 1) >> 8) * 0x1p-24;
    const double radius = std::sqrt(-2 * std::log(u));
    const double pair[] = {radius * std::cos(2 * M_PI * turns),
                           radius * std::sin(2 * M_PI * turns)};
    for (int64_t j = 0; j < 2; ++j) {
      const double value = reference[static_cast<size_t>(i + j)];
      EXPECT(std::abs(value - pair[j]) <= 2e-6 * std::max(1.0, radius), shown(value));
      sum += value;
      squares += value * value;
      fourth += value * value * value * value;
    }
  }
  EXPECT(std::abs(sum / n) < 5 / std::sqrt(n), shown(sum / n));
  EXPECT(std::abs(squares / n - 1) < 5 * std::sqrt(2.0 / n), shown(squares / n));
  EXPECT(std::abs(fourth / n - 3) < 5 * std::sqrt(96.0 / n), shown(fourth / n));
}

TEST("dropout keeps where the word is not below the threshold, none at 1 and all at 0") {
  for (const cpu::Isa level : isa_levels()) {
    for (const double p : {0.0, 1e-12, 0.1, 0.5, 0.9, 1.0}) {
      std::vector<uint8_t> kept(3000);
      pointwise_kernels(level).dropout_mask(5, 9, 7, p, kept.data(), 3000);
      for (size_t i = 0; i < kept.size(); ++i) {
        const bool wanted = philox_word(5, 9, i + 7) >= dropout_threshold(p);
        EXPECT_EQ(static_cast<int>(kept[i]), wanted ? 1 : 0);
        if (p == 0) EXPECT_EQ(static_cast<int>(kept[i]), 1);
        if (p == 1) EXPECT_EQ(static_cast<int>(kept[i]), 0);
      }
    }
  }
}

TEST("the random ops are the same with any number of threads and in every shape") {
  const int64_t n = 100001;
  for (const DType dtype : kFloats) {
    const std::vector<std::string> names = {"random_uniform", "random_normal"};
    for (const std::string& name : names) {
      cpu::set_num_threads(1);
      const Tensor one = run(name, {}, {11, 3, -1, 2}, dtype, {n});
      cpu::set_num_threads(4);
      EXPECT(same_bits(one, run(name, {}, {11, 3, -1, 2}, dtype, {n})), name);
      const Tensor fewer = run(name, {}, {11, 3, -1, 2}, dtype, {3001});
      for (int64_t i = 0; i < 3001; ++i) {
        EXPECT(std::memcmp(element_at(fewer, i), element_at(one, i), item_size(dtype)) == 0, name);
      }
    }
    for (const double value : values_of(run("random_uniform", {}, {1, 0, -1, 2}, dtype, {n}))) {
      EXPECT(value >= -1 && value < 2, shown(value));
    }
  }
  for (const double value : values_of(run("random_int", {}, {1, 0, -3, 4}, DType::kInt64, {n}))) {
    EXPECT(value >= -3 && value < 4 && value == std::floor(value), shown(value));
  }
}

}  // namespace
