# Configures, builds and runs the consumer project, which finds the library in the way MODE says.
cmake_minimum_required(VERSION 3.25)
set(work "${BUILD_DIR}/packaging/${NAME}")
file(REMOVE_RECURSE "${work}")
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(result)
    message(FATAL_ERROR "failed: ${ARGN}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

if(MODE STREQUAL "find_package")
  run(${CMAKE_COMMAND} --install "${BUILD_DIR}" --prefix "${work}/installed")
endif()
run(${CMAKE_COMMAND} -S "${SOURCE_DIR}/tests/packaging/consumer" -B "${work}/build" -G "${GENERATOR}"
    -DCMAKE_CXX_COMPILER=${CXX} -DMODE=${MODE} -DFLOWMATCH_DIR=${SOURCE_DIR}
    -DCMAKE_PREFIX_PATH=${LIBTORCH} -Dflowmatch_ROOT=${work}/installed)
run(${CMAKE_COMMAND} --build "${work}/build")
run("${work}/build/consumer")
if(NOT output MATCHES "consumer: 64 samples")
  message(FATAL_ERROR "the consumer printed: ${output}")
endif()
