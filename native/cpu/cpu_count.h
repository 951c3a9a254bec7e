// How many processor cores this process may keep busy.
#pragma once

namespace mixprec::cpu {

// Physical cores among the processors that the affinity mask allows, at most what the control
// groups' CPU quota pays for; at least 1.
int usable_cores();

}  // namespace mixprec::cpu
