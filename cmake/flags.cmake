# Compiler flags that every target shares (target mixprec_flags), and the instruction-set extensions
# that a source file's name asks for.

add_library(mixprec_flags INTERFACE)
target_compile_options(mixprec_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual>)
if(MIXPREC_WERROR)
  target_compile_options(mixprec_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(MIXPREC_SANITIZE)
  target_compile_options(mixprec_flags INTERFACE
    -fsanitize=${MIXPREC_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1)
  target_link_options(mixprec_flags INTERFACE -fsanitize=${MIXPREC_SANITIZE})
endif()

# Gives the files of the list named by `sources_variable` their instruction set, and drops those of
# x86-64 on any other processor, where MIXPREC_X86 is 0 and only the portable path exists.
function(mixprec_select_instruction_sets sources_variable)
  set(sources ${${sources_variable}})
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    target_compile_definitions(mixprec_flags INTERFACE MIXPREC_X86=1)
    set(avx2 -mavx2 -mfma -mf16c)
    set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512)
    foreach(source IN LISTS sources)
      if(source MATCHES "_(avx2|avx512)\\.cc$")
        set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${${CMAKE_MATCH_1}}")
      endif()
    endforeach()
  else()
    target_compile_definitions(mixprec_flags INTERFACE MIXPREC_X86=0)
    list(FILTER sources EXCLUDE REGEX "_(avx2|avx512)\\.cc$")
  endif()
  set(${sources_variable} ${sources} PARENT_SCOPE)
endfunction()
