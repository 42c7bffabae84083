# Parsers of files against any bytes. The kept corpus is replayed with every compiler; the fuzzers
# themselves are clang's, and not built with the rest:
#   cmake --preset clang && cmake --build build-clang --target fuzz_safetensors
#   build-clang/tests/fuzz_safetensors -malloc_limit_mb=1 -dict=tests/fuzz/safetensors.dict new tests/fuzz/corpus/safetensors
function(flowmatch_fuzz_target target source)
  add_executable(${target} ${ARGN} fuzz/${source}_fuzz.cpp)
  target_link_libraries(${target} PRIVATE flowmatch_warnings)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/include")
  target_compile_features(${target} PRIVATE cxx_std_20)
endfunction()

foreach(_format IN ITEMS safetensors npy idx pickle)
  flowmatch_fuzz_target(replay_${_format} ${_format} fuzz/replay.cpp)
  add_test(NAME "fuzz/${_format} corpus"
           COMMAND replay_${_format} "${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${_format}")
  set_tests_properties("fuzz/${_format} corpus" PROPERTIES LABELS fuzz TIMEOUT 60)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    flowmatch_fuzz_target(fuzz_${_format} ${_format})
    set_target_properties(fuzz_${_format} PROPERTIES EXCLUDE_FROM_ALL ON)
    target_compile_options(fuzz_${_format} PRIVATE -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
    target_link_options(fuzz_${_format} PRIVATE -fsanitize=fuzzer,address,undefined)
  endif()
endforeach()
