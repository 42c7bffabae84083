# The API reference from the docstrings: target `reference`, where Doxygen is installed.

find_package(Doxygen 1.9.4 QUIET)
if(NOT DOXYGEN_FOUND)
  return()
endif()

set(FLOWMATCH_REFERENCE_DIR "${PROJECT_BINARY_DIR}/reference")
configure_file("${PROJECT_SOURCE_DIR}/docs/Doxyfile.in" "${FLOWMATCH_REFERENCE_DIR}/Doxyfile" @ONLY)
add_custom_target(reference COMMAND Doxygen::doxygen "${FLOWMATCH_REFERENCE_DIR}/Doxyfile"
                  COMMENT "${FLOWMATCH_REFERENCE_DIR}/html/index.html" VERBATIM)

find_package(Python3 QUIET COMPONENTS Interpreter)
if(FLOWMATCH_BUILD_TESTS AND Python3_FOUND)
  add_test(NAME "docs/reference"
           COMMAND Python3::Interpreter "${PROJECT_SOURCE_DIR}/tests/support/check_reference.py"
                   $<TARGET_FILE:Doxygen::doxygen> "${FLOWMATCH_REFERENCE_DIR}" "${PROJECT_SOURCE_DIR}/docs/conventions.md")
  set_tests_properties("docs/reference" PROPERTIES LABELS slow TIMEOUT 300)
endif()
