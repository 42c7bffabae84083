# What holds for the headers as a whole.

add_test(NAME "architecture/includes follow the plan"
         COMMAND ${CMAKE_COMMAND} -DINCLUDE_DIR=${PROJECT_SOURCE_DIR}/include/flowmatch -P
                 ${CMAKE_CURRENT_SOURCE_DIR}/support/check_includes.cmake)

# Two translation units that include everything link together.
add_executable(test_odr odr/one.cpp odr/two.cpp)
flowmatch_own(test_odr)
add_test(NAME "architecture/two translation units link" COMMAND test_odr)

# Every header compiles on its own, and twice: one source a header.
foreach(_header IN LISTS _headers)
  file(RELATIVE_PATH _name "${PROJECT_SOURCE_DIR}/include" "${_header}")
  string(REPLACE "/" "_" _source "headers/${_name}.cpp")
  file(CONFIGURE OUTPUT "${_source}" CONTENT "#include \"${_name}\"\n#include \"${_name}\"\n")
  list(APPEND _header_sources "${CMAKE_CURRENT_BINARY_DIR}/${_source}")
endforeach()
add_library(flowmatch_header_check OBJECT ${_header_sources})
flowmatch_own(flowmatch_header_check)
