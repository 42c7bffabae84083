# What the tests and examples share; none of it reaches users of the library.

add_library(flowmatch_warnings INTERFACE)
target_compile_options(flowmatch_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
                                                    $<$<BOOL:${FLOWMATCH_WERROR}>:-Werror>)
# GCC's optimiser sees ghosts: in LibTorch's data loader and std::optional, and GCC 12 at -O3 in std::string (its bug 105651).
target_compile_options(flowmatch_warnings INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(flowmatch_warnings INTERFACE -Wno-restrict -Wno-stringop-overflow -Wno-stringop-overread)
endif()
if(FLOWMATCH_SANITIZE)
  # UBSan's checks of every pointer would double the build's time; ASan sees wild pointers too.
  target_compile_options(flowmatch_warnings INTERFACE -fsanitize=${FLOWMATCH_SANITIZE} -fno-sanitize-recover=all
                                                      -fno-sanitize=null,alignment,object-size,vptr
                                                      -fno-omit-frame-pointer)
  target_link_options(flowmatch_warnings INTERFACE -fsanitize=${FLOWMATCH_SANITIZE})
endif()
target_include_directories(flowmatch_warnings INTERFACE "${PROJECT_SOURCE_DIR}")
# Without them flowmatch/parallel/c10d.hpp knows no Gloo, and the tests and examples train in one process.
find_path(FLOWMATCH_GLOO_INCLUDE_DIR gloo/transport/device.h DOC "Folder of Gloo's headers")
if(FLOWMATCH_GLOO_INCLUDE_DIR)
  target_include_directories(flowmatch_warnings SYSTEM INTERFACE "${FLOWMATCH_GLOO_INCLUDE_DIR}")
else()
  message(STATUS "Gloo's headers (Debian: libgloo-dev) are not installed: no distributed training")
endif()
flowmatch_find_fmt()
target_link_libraries(flowmatch_warnings INTERFACE fmt::fmt-header-only)
target_compile_definitions(flowmatch_warnings INTERFACE FLOWMATCH_SOURCE_DIR="${PROJECT_SOURCE_DIR}")

# LibTorch's headers take 20 s to read: once here, for all that uses them.
add_library(flowmatch_pch OBJECT "${CMAKE_CURRENT_LIST_DIR}/pch.cpp")
target_link_libraries(flowmatch_pch PRIVATE flowmatch_warnings flowmatch::flowmatch)
target_precompile_headers(flowmatch_pch PRIVATE "${CMAKE_CURRENT_LIST_DIR}/pch.hpp")

# What GCC does for the pending templates of LibTorch's headers costs more than most source files: once for some of them.
function(flowmatch_unity target size)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${size})
endfunction()

# A target of our own that uses LibTorch.
function(flowmatch_own target)
  target_link_libraries(${target} PRIVATE flowmatch_warnings flowmatch::flowmatch)
  target_precompile_headers(${target} REUSE_FROM flowmatch_pch)
endfunction()
