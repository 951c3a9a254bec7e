#include "warpgroup.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include "cuda/runtime/tensor_map.h"
#include "machine.h"
#include "tensor_core.h"

namespace mixprec::cuda::emulator {
namespace {

constexpr int kRows = 64;
constexpr int kMostColumns = 256;
constexpr int kMostDepth = 32;
constexpr uint32_t kPoison = ~0u;  // NaN

uint32_t member_of(const Thread& thread) { return thread.linear % kWarpgroupThreads; }

// A matrix descriptor (PTX ISA 9.7.15.5, "Matrix Descriptor Format") and where it says that
// elements are. The layouts are those that CuTe calls canonical.
class OperandTile {
 public:
  OperandTile(const char* name, uint64_t descriptor, OperandType type, bool mn_major, int extent)
      : name_(name),
        bytes_(element_bytes(type)),
        mn_major_(mn_major),
        start_(static_cast<uint32_t>(descriptor & 0x3fff) << 4),
        leading_(static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4),
        stride_(static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4),
        swizzle_(static_cast<Swizzle>(descriptor >> 62)) {
    const auto base_offset = static_cast<uint32_t>(descriptor >> 49 & 7);
    const uint32_t pattern = swizzle_ == Swizzle::k128Bytes  ? 1024
                             : swizzle_ == Swizzle::k64Bytes ? 512
                             : swizzle_ == Swizzle::k32Bytes ? 256
                                                             : 16;
    row_ = std::max(16u, pattern / 8);
    // Inside of a row is where K may advance to.
    if ((start_ & (pattern - 1) & ~(row_ - 1)) != 0 || base_offset != 0) {
      fail("misaligned descriptor: the tile does not begin where its swizzle's pattern of " +
           std::to_string(pattern) + " bytes does");
    }
    check(extent, depth_of(type));
  }

  const uint8_t* element(int row, int k) const {
    return current_block().shared.at(swizzled(address(row, k), swizzle_) - kWindowBase);
  }

 private:
  uint32_t address(int row, int k) const {
    const auto mn = static_cast<uint32_t>(row);
    const auto depth = static_cast<uint32_t>(k);
    if (!mn_major_) {
      const uint32_t along = depth * bytes_;
      if (swizzle_ == Swizzle::kNone) {
        // Core matrices of 8 rows of 16 bytes.
        return start_ + mn / 8 * stride_ + mn % 8 * 16 + along / 16 * leading_ + along % 16;
      }
      return start_ + mn / 8 * stride_ + mn % 8 * row_ + along;
    }
    const uint32_t along = mn * bytes_;
    if (swizzle_ == Swizzle::kNone) {
      return start_ + along / 16 * stride_ + along % 16 + depth / 8 * leading_ + depth % 8 * 16;
    }
    return start_ + along / row_ * leading_ + along % row_ + depth / 8 * stride_ + depth % 8 * row_;
  }

  void check(int extent, int depth) const {
    const Block& block = current_block();
    const auto fences_of = [&](uint32_t thread) { return block.threads[thread].proxy_fences; };
    const auto step = static_cast<int>(16 / bytes_);
    const int step_row = mn_major_ ? step : 1;
    const int step_k = mn_major_ ? 1 : step;
    for (int row = 0; row < extent; row += step_row) {
      for (int k = 0; k < depth; k += step_k) {
        const uint32_t at = swizzled(address(row, k), swizzle_);
        const uint32_t offset = at - kWindowBase;
        if (at < kWindowBase || offset + 16 > block.shared.used()) {
          fail("the descriptor leads out of bounds, to shared byte " +
               std::to_string(static_cast<int32_t>(offset)) + " of " +
               std::to_string(block.shared.used()));
        }
        if (block.shared.in_flight(offset, 16)) {
          fail("it reads byte " + std::to_string(offset) +
               " of shared memory, to which a copy is still under way: a wait is missing");
        }
        if (block.shared.unfenced(offset, 16, fences_of)) {
          fail("it reads byte " + std::to_string(offset) +
               " of shared memory, where a thread stored without fence_proxy_async after it");
        }
      }
    }
  }

  [[noreturn]] void fail(const std::string& what) const {
    fault(api::kLaunchFailure, "wgmma, operand " + std::string(name_) + ": " + what);
  }

  const char* name_;
  uint32_t bytes_;
  bool mn_major_;
  uint32_t start_, leading_, stride_;
  uint32_t row_ = 16;  // bytes of a row of the swizzle's pattern
  Swizzle swizzle_;
};

// Operands of a product as dense matrices: a[64][k], b[k][n].
template <class T>
struct Matrices {
  T a[kRows * kMostDepth];
  T b[kMostDepth * kMostColumns];
};

// Of this thread, and not in its static memory, of which a loaded library gets little.
template <class T>
Matrices<T>& scratch() {
  static thread_local const auto matrices = std::make_unique<Matrices<T>>();
  return *matrices;
}

template <class T, class Convert>
void gather(const WgmmaProduct& product, Matrices<T>& matrices, const Convert& convert) {
  const WgmmaShape& shape = product.shape;
  const int depth = depth_of(shape.type);
  const auto bytes = static_cast<int>(element_bytes(shape.type));
  if (shape.a_in_registers) {
    for (uint32_t member = 0; member < kWarpgroupThreads; ++member) {
      for (int reg = 0; reg < 4; ++reg) {
        const FragmentPlace place = a_place(static_cast<int>(member % kWarpSize), reg);
        const int row = static_cast<int>(member / kWarpSize) * 16 + place.row;
        const auto* const element =
            reinterpret_cast<const uint8_t*>(&product.a[member * 4 + static_cast<uint32_t>(reg)]);
        for (int byte = 0; byte < 4; byte += bytes) {
          matrices.a[row * depth + (place.byte + byte) / bytes] = convert(element + byte);
        }
      }
    }
  } else {
    const OperandTile tile("A", product.descriptor_a, shape.type, shape.a_mn_major, kRows);
    for (int row = 0; row < kRows; ++row) {
      for (int k = 0; k < depth; ++k) matrices.a[row * depth + k] = convert(tile.element(row, k));
    }
  }
  const OperandTile tile("B", product.descriptor_b, shape.type, shape.b_mn_major, shape.n);
  for (int column = 0; column < shape.n; ++column) {
    for (int k = 0; k < depth; ++k) {
      matrices.b[k * shape.n + column] = convert(tile.element(column, k));
    }
  }
}

// Registers and the tile of sums: as in the accumulator of m16n8, eight columns after the other.
template <class Move>
void each_register(uint32_t member, int n, const Move& move) {
  const auto lane = static_cast<int>(member % kWarpSize);
  const int first = static_cast<int>(member / kWarpSize) * 16 * n;
  for (int i = 0; i < n / 2; ++i) move(i, first + result_place(lane, i, n));
}

}  // namespace

void Warpgroup::fence(const Thread& thread) { members_[member_of(thread)].fenced = true; }

void Warpgroup::take_registers(WgmmaSums& sums, uint32_t member, float* registers) {
  sums.registers[member] = registers;
  each_register(member, sums.n, [&](int i, int at) {
    std::memcpy(&sums.tile[static_cast<size_t>(at)], registers + i, 4);
    std::memcpy(registers + i, &kPoison, 4);
  });
}

// The sums that the thread's registers are part of, new ones if no product uses them.
std::shared_ptr<WgmmaSums> Warpgroup::sums_of(uint32_t member, const WgmmaShape& shape,
                                              float* registers) {
  for (const WgmmaProduct& product : products_) {
    if (product.sums->registers[member] != registers) continue;
    if (product.shape.n != shape.n) {
      fault(api::kLaunchFailure, "wgmma of two shapes adds to the same registers");
    }
    return product.sums;
  }
  if (!members_[member].fenced) {
    fault(api::kLaunchFailure,
          "wgmma without wgmma_fence after the thread could have changed its registers");
  }
  auto sums = std::make_shared<WgmmaSums>();
  sums->n = shape.n;
  sums->tile.resize(static_cast<size_t>(kRows) * shape.n);
  return sums;
}

void Warpgroup::issue(const Thread& thread, const WgmmaShape& shape, const Operands& operands) {
  const uint32_t index = member_of(thread);
  Member& member = members_[index];
  if (member.issued < run_) fault(api::kLaunchFailure, "wgmma that its warpgroup is past");
  const uint64_t at = member.issued++ - run_;
  if (at == products_.size()) {
    WgmmaProduct product;
    product.shape = shape;
    product.accumulate = operands.accumulate;
    product.descriptor_a = operands.descriptor_a;
    product.descriptor_b = operands.descriptor_b;
    if (shape.a_in_registers) product.a.resize(kWarpgroupThreads * 4);
    product.sums = sums_of(index, shape, operands.registers);
    ++product.sums->products;
    products_.push_back(std::move(product));
  }
  WgmmaProduct& product = products_[at];
  if (!(product.shape == shape) || product.accumulate != operands.accumulate ||
      product.descriptor_a != operands.descriptor_a ||
      product.descriptor_b != operands.descriptor_b) {
    fault(api::kLaunchFailure, "threads of a warpgroup issue different wgmma");
  }
  float*& registers = product.sums->registers[index];
  if (registers == nullptr) {
    if (!member.fenced) {
      fault(api::kLaunchFailure,
            "wgmma without wgmma_fence after the thread could have changed its registers");
    }
    take_registers(*product.sums, index, operands.registers);
  } else if (registers != operands.registers) {
    fault(api::kLaunchFailure, "threads of a warpgroup give wgmma different registers");
  }
  if (shape.a_in_registers) std::copy_n(operands.a, 4, &product.a[index * 4]);
  ++product.issued;
}

void Warpgroup::commit(const Thread& thread) {
  Member& member = members_[member_of(thread)];
  const uint64_t group = member.groups++;
  if (group == group_ends_.size()) group_ends_.push_back(member.issued);
  if (group_ends_[group] != member.issued) {
    fault(api::kLaunchFailure, "threads of a warpgroup commit different groups of wgmma");
  }
  if (!committed_by_all(group)) return;
  Machine& self = machine();
  self.note_progress();
  while (!waiting_.empty()) self.wake(waiting_.pop());
  if (self.is_shuffled() && self.random() % 2 == 0) run_until(group_ends_[group]);
}

bool Warpgroup::committed_by_all(uint64_t group) const {
  return std::all_of(std::begin(members_), std::end(members_),
                     [&](const Member& member) { return member.groups > group; });
}

void Warpgroup::wait(Thread& thread, uint32_t pending) {
  Member& member = members_[member_of(thread)];
  member.fenced = false;
  if (member.groups <= pending) return;
  const uint64_t group = member.groups - pending - 1;
  while (!committed_by_all(group)) {
    waiting_.push(&thread);
    machine().sleep();
  }
  run_until(group_ends_[group]);
}

bool Warpgroup::busy(const Thread& thread) const {
  return members_[member_of(thread)].issued > run_;
}

void Warpgroup::run_until(uint64_t product) {
  while (run_ < product) {
    WgmmaProduct& next = products_.front();
    run(next);
    WgmmaSums& sums = *next.sums;
    if (--sums.products == 0) {
      for (uint32_t member = 0; member < kWarpgroupThreads; ++member) {
        each_register(member, sums.n, [&](int i, int at) {
          std::memcpy(sums.registers[member] + i, &sums.tile[static_cast<size_t>(at)], 4);
        });
      }
    }
    products_.pop_front();
    ++run_;
  }
}

void Warpgroup::run(WgmmaProduct& product) {
  std::vector<float>& tile = product.sums->tile;
  if (!product.accumulate) std::fill(tile.begin(), tile.end(), 0.0f);
  const WgmmaShape& shape = product.shape;
  const int depth = depth_of(shape.type);
  if (shape.type == OperandType::kInt8) {
    Matrices<int8_t>& matrices = scratch<int8_t>();
    gather(product, matrices, [](const uint8_t* element) { return static_cast<int8_t>(*element); });
    std::vector<int32_t> sums(tile.size());
    std::memcpy(sums.data(), tile.data(), tile.size() * 4);
    tensor_core(kRows, shape.n, depth, matrices.a, matrices.b, sums.data());
    std::memcpy(tile.data(), sums.data(), tile.size() * 4);
    return;
  }
  Matrices<float>& matrices = scratch<float>();
  gather(product, matrices,
         [&](const uint8_t* element) { return float_value(element, shape.type); });
  tensor_core(kRows, shape.n, depth, depth, matrices.a, matrices.b, tile.data());
}

Warpgroup& warpgroup() {
  const Thread& thread = machine().thread();
  Block& block = *thread.block;
  if (block.warpgroups.empty()) block.warpgroups.resize(block.threads_total / kWarpgroupThreads);
  const uint32_t index = thread.linear / kWarpgroupThreads;
  if (index >= block.warpgroups.size()) {
    fault(api::kLaunchFailure, "wgmma by a warp that has no three neighbours to a warpgroup");
  }
  return block.warpgroups[index];
}

void check_warpgroup_at_end(const Thread& thread) {
  const uint32_t index = thread.linear / kWarpgroupThreads;
  const std::vector<Warpgroup>& groups = thread.block->warpgroups;
  if (index < groups.size() && groups[index].busy(thread)) {
    fault(api::kLaunchFailure, "a thread ended while its wgmma was under way: a wait is missing");
  }
}

}  // namespace mixprec::cuda::emulator
