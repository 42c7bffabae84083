# Consumers of the library, each a project of its own that is configured, built and run.
set(FLOWMATCH_TEST_LIBTORCH "" CACHE STRING "Further LibTorchs to try, such as a CUDA wheel's folder")

function(flowmatch_consumer name mode libtorch)
  add_test(NAME "packaging/${name}"
           COMMAND ${CMAKE_COMMAND} -DMODE=${mode} -DSOURCE_DIR=${PROJECT_SOURCE_DIR}
                   -DBUILD_DIR=${PROJECT_BINARY_DIR} -DNAME=${name} -DGENERATOR=${CMAKE_GENERATOR}
                   -DCXX=${CMAKE_CXX_COMPILER} -DLIBTORCH=${libtorch} -P
                   ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/check.cmake)
  set_tests_properties("packaging/${name}" PROPERTIES LABELS packaging TIMEOUT 600)
endfunction()

foreach(_mode IN ITEMS find_package add_subdirectory fetch_content)
  flowmatch_consumer(${_mode} ${_mode} "${LibTorch_ROOT_DIR}")
endforeach()
set_tests_properties(packaging/add_subdirectory packaging/fetch_content PROPERTIES LABELS "packaging;slow")
set(_count 0)
foreach(_libtorch IN LISTS FLOWMATCH_TEST_LIBTORCH)
  math(EXPR _count "${_count} + 1")
  flowmatch_consumer("another_libtorch_${_count}" add_subdirectory "${_libtorch}")
endforeach()

# Which LibTorch is taken, and what is said where it will not do.
add_test(NAME "packaging/finding LibTorch"
         COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${PROJECT_SOURCE_DIR} -DBUILD_DIR=${PROJECT_BINARY_DIR}
                 -DGENERATOR=${CMAKE_GENERATOR} -DMAKE_PROGRAM=${CMAKE_MAKE_PROGRAM}
                 -DCXX=${CMAKE_CXX_COMPILER} -DLIBTORCH=${LibTorch_ROOT_DIR} -P
                 ${CMAKE_CURRENT_LIST_DIR}/find_libtorch/check.cmake)
set_tests_properties("packaging/finding LibTorch" PROPERTIES LABELS packaging TIMEOUT 120)

add_test(NAME "packaging/bootstrap without a command"
         COMMAND ${CMAKE_COMMAND} -DEXIT=2 -DMATCH=usage -P
                 "${CMAKE_CURRENT_SOURCE_DIR}/support/expect.cmake" -- sh
                 "${PROJECT_SOURCE_DIR}/cmake/bootstrap.sh")
add_test(NAME "packaging/bootstrap with another folder"
         COMMAND ${CMAKE_COMMAND} -DEXIT=2 "-DMATCH=leave --out out" -P
                 "${CMAKE_CURRENT_SOURCE_DIR}/support/expect.cmake" -- sh
                 "${PROJECT_SOURCE_DIR}/cmake/bootstrap.sh" demo --out elsewhere)
set_tests_properties("packaging/bootstrap without a command" "packaging/bootstrap with another folder"
                     PROPERTIES LABELS packaging)
