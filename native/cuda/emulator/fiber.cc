#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__x86_64__)
// Saves the registers that a call must keep on the old stack, and takes them from the new one.
extern "C" void mixprec_switch_stack(void** save, void* to);
asm(R"(
.text
.hidden mixprec_switch_stack
.globl mixprec_switch_stack
.type mixprec_switch_stack, @function
mixprec_switch_stack:
  endbr64
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size mixprec_switch_stack, .-mixprec_switch_stack
)");
#endif

namespace mixprec::cuda::emulator {
namespace {

constexpr size_t kGuardBytes = 4096;

}  // namespace

Fiber::Fiber(void (*entry)()) {
  constexpr size_t kBytes = kStackBytes + kGuardBytes;
  memory_ = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory_ == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory_, kGuardBytes, PROT_NONE);  // below the stack: an overflow must not go unseen
#if defined(__x86_64__)
  // A stack as after a call to entry: six registers, the address to return to, and where entry's
  // own return address would be, a null; its place gives the alignment that the ABI wants.
  auto* top = reinterpret_cast<void**>(static_cast<char*>(memory_) + kBytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = static_cast<char*>(memory_) + kGuardBytes;
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#endif
}

Fiber::~Fiber() {
  if (memory_ != nullptr) munmap(memory_, kStackBytes + kGuardBytes);
}

void Fiber::switch_to(Fiber& to) {
#if defined(__x86_64__)
  mixprec_switch_stack(&stack_pointer_, to.stack_pointer_);
#else
  swapcontext(&context_, &to.context_);
#endif
}

}  // namespace mixprec::cuda::emulator
