// Row kernels for any processor.
#include "rows_impl.h"

namespace mixprec::cpu {

const RowKernels& rows_portable() { return kRowKernels; }

}  // namespace mixprec::cpu
