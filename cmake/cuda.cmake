# Adds the CUDA backend to mixprec_backend, or leaves it out: by MIXPREC_CUDA, and by what the build
# machine has. Only a compiler is needed to build it, neither a GPU nor a driver.
# Included at file scope, since enable_language() may not be called in a function.
set(MIXPREC_CUDA_ARCHITECTURES "80;90a" CACHE STRING "GPU architectures to compile for")

if(NOT MIXPREC_CUDA MATCHES "^(auto|on|off|emulated)$")
  message(FATAL_ERROR
    "MIXPREC_CUDA is \"${MIXPREC_CUDA}\"; expected auto, on, off or emulated")
endif()
if(MIXPREC_CUDA STREQUAL "off")
  message(STATUS "CUDA backend: off")
  return()
endif()

file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS native/cuda/*.cc native/cuda/*.cu)

# Choices of kernels on disk are those of one version of the library.
file(READ ${CMAKE_CURRENT_SOURCE_DIR}/package.json package)
string(JSON version GET "${package}" version)
set_source_files_properties(native/cuda/gemm/choose.cc PROPERTIES
  COMPILE_DEFINITIONS MIXPREC_VERSION="${version}")

# The emulated build: the same sources and the emulator, all by the host compiler. For tests only.
if(MIXPREC_CUDA STREQUAL "emulated")
  set(cuda_kernels ${cuda_sources})
  list(FILTER cuda_kernels INCLUDE REGEX "\\.cu$")
  set_source_files_properties(${cuda_kernels} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++")
  target_sources(mixprec_backend PRIVATE ${cuda_sources})
  target_compile_definitions(mixprec_backend PUBLIC MIXPREC_HAS_CUDA=1 MIXPREC_CUDA_EMULATED=1)
  message(STATUS "CUDA backend: emulated, for tests only")
  return()
endif()

list(FILTER cuda_sources EXCLUDE REGEX "native/cuda/emulator/")
unset(reason_without_cuda)
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  set(reason_without_cuda "no CUDA compiler (nvcc) was found")
endif()
if(DEFINED reason_without_cuda)
  if(MIXPREC_CUDA STREQUAL "on")
    message(FATAL_ERROR "MIXPREC_CUDA is on, but ${reason_without_cuda}")
  endif()
  message(STATUS "CUDA backend: left out, ${reason_without_cuda}")
  return()
endif()

if(CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
# The flags below name the architectures; older releases of CMake do not know 90a.
set(CMAKE_CUDA_ARCHITECTURES OFF)
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake before 3.26 does not know that nvcc has it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
endif()
find_package(CUDAToolkit REQUIRED)

# Kernels are unpacked when they are first used, so that size counts for more than speed.
set(cuda_flags --expt-relaxed-constexpr --compress-mode=size)
foreach(architecture IN LISTS MIXPREC_CUDA_ARCHITECTURES)
  list(APPEND cuda_flags
    "--generate-code=arch=compute_${architecture},code=sm_${architecture}")
endforeach()
# PTX of the first one, for GPUs that are newer than all.
list(GET MIXPREC_CUDA_ARCHITECTURES 0 oldest)
list(APPEND cuda_flags "--generate-code=arch=compute_${oldest},code=compute_${oldest}")
# A kernel that spills registers fails the build, but for these sources where they are compiled for
# architectures of which nothing is tuned yet: ptxas 13.0 spills there a few words around divisions
# of 64 bits, which is to index tensors of any strides, and in the largest tile of float32.
list(APPEND cuda_flags -Xptxas=-warn-spills)
if(MIXPREC_CUDA_ARCHITECTURES MATCHES "1[0-9][0-9]")
  set(spilling
    binary copy finish gemv mma_sm80_float32 reduce select simt unary wide_range)
endif()
foreach(source IN LISTS cuda_sources)
  get_filename_component(name ${source} NAME_WE)
  if(source MATCHES "\\.cu$" AND NOT name IN_LIST spilling)
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-Xptxas=-Werror")
  endif()
endforeach()

target_sources(mixprec_backend PRIVATE ${cuda_sources})
set_target_properties(mixprec_backend PROPERTIES
  CUDA_ARCHITECTURES OFF CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON)
target_compile_definitions(mixprec_backend PUBLIC MIXPREC_HAS_CUDA=1)
target_compile_options(mixprec_backend PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${cuda_flags}>")
# Static, so that one binary loads where there is no CUDA at all.
target_link_libraries(mixprec_backend PUBLIC CUDA::cudart_static)
message(STATUS "CUDA backend: ${CMAKE_CUDA_COMPILER} for ${MIXPREC_CUDA_ARCHITECTURES}")
