// Where the kernels of mma.sync put things in shared memory: the emulator does not see that threads
// meet in a bank, so the places themselves are looked at.
#include <set>

#include "cuda/gemm/mma_sm80_half.h"
#include "device_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::mma_sm80;

namespace {

// Expects that 16-byte accesses of 8 lanes, which are served together, are in different banks.
template <class Place>
void expect_apart(const Place& place, const std::string& what) {
  std::set<uint32_t> banks;
  for (int lane = 0; lane < 8; ++lane) {
    const uint32_t at = place(lane);
    EXPECT_EQ(at % 16, 0u);
    banks.insert(at / 16 % 8);
  }
  EXPECT(banks.size() == 8, what + " meet in " + std::to_string(banks.size()) + " of 8 places");
}

// Expects that the tile's chunks lie side by side, each in a place of its own.
template <class Layout>
void expect_whole() {
  std::set<uint32_t> places;
  for (int line = 0; line < Layout::kLines; ++line) {
    for (int chunk = 0; chunk < Layout::kLineChunks; ++chunk) {
      places.insert(Layout::offset(line, chunk));
    }
  }
  EXPECT_EQ(places.size(), static_cast<size_t>(Layout::kBytes / 16));
  EXPECT_EQ(*places.rbegin(), static_cast<uint32_t>(Layout::kBytes - 16));
}

// Copies write a line's chunks one after the other.
template <class Layout>
void expect_copies_apart() {
  for (int first = 0; first < Layout::kLines * Layout::kLineChunks; first += 8) {
    expect_apart(
        [&](int lane) {
          const int at = first + lane;
          return Layout::offset(at / Layout::kLineChunks, at % Layout::kLineChunks);
        },
        "copies");
  }
}

template <class T, int kTile, int kDepth, bool kKMajor>
void expect_matrices() {
  using Layout = TileLayout<T, kTile, kDepth, kKMajor, Reading::kMatrices>;
  expect_whole<Layout>();
  expect_copies_apart<Layout>();
  for (int line = 0; line < Layout::kLines; line += 8) {
    for (int chunk = 0; chunk < Layout::kLineChunks; ++chunk) {
      expect_apart([&](int lane) { return Layout::offset(line + lane, chunk); }, "ldmatrix");
    }
  }
}

template <class T, int kTile, bool kKMajor>
void expect_blocks() {
  using Layout = TileLayout<T, kTile, 16, kKMajor, Reading::kBlocks>;
  constexpr int kEdge = Layout::kChunk;
  expect_whole<Layout>();
  expect_copies_apart<Layout>();
  for (int group = 0; group < kTile / (8 * kEdge); ++group) {
    for (int g = 0; g < 8; g += 2) {
      for (int step = 0; step < 16 / (4 * kEdge); ++step) {
        for (int line = 0; line < kEdge; ++line) {
          expect_apart(
              [&](int lane) {
                const int row = (group * 8 + g + lane / 4) * kEdge;
                const int k = (step * 4 + lane % 4) * kEdge;
                return kKMajor ? Layout::offset(row + line, k / kEdge)
                               : Layout::offset(k + line, row / kEdge);
              },
              "blocks");
        }
      }
    }
  }
}

}  // namespace

TEST("tiles for ldmatrix") {
  expect_matrices<Float16, 128, 32, true>();
  expect_matrices<Float16, 128, 32, false>();
  expect_matrices<Float16, 64, 32, true>();
  expect_matrices<Float16, 64, 32, false>();
  expect_matrices<int8_t, 128, 64, true>();
}

TEST("tiles for blocks") {
  expect_blocks<float, 128, true>();
  expect_blocks<float, 128, false>();
  expect_blocks<float, 64, true>();
  expect_blocks<float, 64, false>();
  expect_blocks<double, 128, true>();
  expect_blocks<double, 128, false>();
  expect_blocks<double, 64, true>();
  expect_blocks<double, 64, false>();
}

// Sums of four lanes with four neighbours each, in two rows; and the way back, along rows.
template <class Sum, int kColumns>
static void expect_stage_of_blocks() {
  using Tile = Stage<Sum, 64, kColumns, true>;
  constexpr int kEdge = Tile::kChunk;
  const Tile stage{0};
  for (int row = 0; row < 64 / (8 * kEdge) * 8; row += 2) {
    for (int column = 0; column < kColumns; column += 8 * kEdge) {
      for (int r = 0; r < 2; ++r) {
        expect_apart(
            [&](int lane) {
              return stage.address((row + lane / 4) * kEdge, column + (lane % 4 * 2 + r) * kEdge);
            },
            "sums of blocks");
      }
    }
  }
  for (int chunk = 0; chunk < kColumns / kEdge; chunk += 8) {
    expect_apart([&](int lane) { return stage.address(5, (chunk + lane) * kEdge); }, "rows");
  }
}

TEST("sums on their way to memory") {
  expect_stage_of_blocks<float, 64>();
  expect_stage_of_blocks<float, 32>();
  expect_stage_of_blocks<double, 32>();
  // Pairs of fragments: 8 bytes of 16 lanes at once.
  const Stage<float, 64, 64, false> stage{0};
  for (int first = 0; first < 32; first += 16) {
    std::set<uint32_t> banks;
    for (int lane = first; lane < first + 16; ++lane) {
      banks.insert(stage.address(lane / 4, lane % 4 * 2) / 8 % 16);
    }
    EXPECT_EQ(banks.size(), size_t{16});
  }
}
