# What holds for the headers as a whole. The label "slow" is for what takes minutes and seldom breaks: `ctest --preset slow`.

add_test(NAME "architecture/includes follow the plan"
         COMMAND ${CMAKE_COMMAND} -DINCLUDE_DIR=${PROJECT_SOURCE_DIR}/include/flowmatch -P
                 ${CMAKE_CURRENT_SOURCE_DIR}/support/check_includes.cmake)

add_test(NAME "architecture/scripts state their policies"
         COMMAND ${CMAKE_COMMAND} -DTESTS_DIR=${CMAKE_CURRENT_SOURCE_DIR} -P
                 ${CMAKE_CURRENT_SOURCE_DIR}/support/check_scripts.cmake)

# Two translation units that include everything link together.
add_executable(test_odr EXCLUDE_FROM_ALL odr/one.cpp odr/two.cpp)
flowmatch_own(test_odr)
add_custom_target(run_test_odr COMMAND test_odr)
add_test(NAME "architecture/two translation units link"
         COMMAND ${CMAKE_COMMAND} --build "${PROJECT_BINARY_DIR}" --target run_test_odr)
set_tests_properties("architecture/two translation units link" PROPERTIES LABELS slow RESOURCE_LOCK build TIMEOUT 600)

# Every header compiles on its own, without the precompiled header that would hide a missing include.
set_target_properties(flowmatch PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
add_test(NAME "architecture/every header compiles on its own"
         COMMAND ${CMAKE_COMMAND} --build "${PROJECT_BINARY_DIR}" --parallel 2 --target
                 flowmatch_verify_interface_header_sets)
set_tests_properties("architecture/every header compiles on its own"
                     PROPERTIES LABELS slow PROCESSORS 2 RESOURCE_LOCK build TIMEOUT 1800)
