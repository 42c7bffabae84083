# What the tests and examples share; none of it reaches users of the library.

add_library(flowmatch_options INTERFACE)
target_compile_options(flowmatch_options INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
                                                   $<$<BOOL:${FLOWMATCH_WERROR}>:-Werror>)
if(FLOWMATCH_SANITIZE)
  target_compile_options(flowmatch_options INTERFACE -fsanitize=${FLOWMATCH_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(flowmatch_options INTERFACE -fsanitize=${FLOWMATCH_SANITIZE})
endif()
target_include_directories(flowmatch_options INTERFACE "${PROJECT_SOURCE_DIR}")
target_link_libraries(flowmatch_options INTERFACE flowmatch::flowmatch)

# LibTorch's headers take 20 s to read: once here, for all that uses them.
add_library(flowmatch_pch OBJECT cmake/pch.cpp)
target_link_libraries(flowmatch_pch PRIVATE flowmatch_options)
target_precompile_headers(flowmatch_pch PRIVATE cmake/pch.hpp)

# A target of our own that uses LibTorch.
function(flowmatch_own target)
  target_link_libraries(${target} PRIVATE flowmatch_options)
  target_precompile_headers(${target} REUSE_FROM flowmatch_pch)
endfunction()
