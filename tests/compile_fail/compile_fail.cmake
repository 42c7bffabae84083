# Wrong use fails to compile, with a message that helps: the first line of each source says which.
file(GLOB _cases CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/*.cpp")
foreach(_case IN LISTS _cases)
  cmake_path(GET _case STEM _name)
  file(STRINGS "${_case}" _expected LIMIT_COUNT 1)
  string(REGEX REPLACE "^// expect: " "" _expected "${_expected}")
  add_library(compile_fail_${_name} OBJECT EXCLUDE_FROM_ALL "${_case}")
  flowmatch_own(compile_fail_${_name})
  target_compile_options(compile_fail_${_name} PRIVATE -fsyntax-only -Wfatal-errors) # the first error is the one
  if(_name STREQUAL "fast_math")
    target_compile_options(compile_fail_${_name} PRIVATE -ffast-math)
    set_target_properties(compile_fail_${_name} PROPERTIES DISABLE_PRECOMPILE_HEADERS ON)
  endif()
  add_test(NAME "compile_fail/${_name}" COMMAND ${CMAKE_COMMAND} --build "${PROJECT_BINARY_DIR}"
                                                --target compile_fail_${_name})
  # The message must come from a static_assert or a constraint, and the build must have got that far.
  set_tests_properties("compile_fail/${_name}" PROPERTIES PASS_REGULAR_EXPRESSION "${_expected}"
                       LABELS compile_fail RESOURCE_LOCK build)
endforeach()
