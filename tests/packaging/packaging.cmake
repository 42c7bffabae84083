# Consumers of the library, each a project of its own that is configured, built and run.
foreach(_mode IN ITEMS find_package add_subdirectory fetch_content)
  add_test(NAME "packaging/${_mode}"
           COMMAND ${CMAKE_COMMAND} -DMODE=${_mode} -DSOURCE_DIR=${PROJECT_SOURCE_DIR}
                   -DBUILD_DIR=${PROJECT_BINARY_DIR} -DGENERATOR=${CMAKE_GENERATOR}
                   -DCXX=${CMAKE_CXX_COMPILER} -DLIBTORCH=${LibTorch_ROOT_DIR} -P
                   ${CMAKE_CURRENT_LIST_DIR}/check.cmake)
  set_tests_properties("packaging/${_mode}" PROPERTIES LABELS packaging TIMEOUT 600)
endforeach()

# Which LibTorch is taken, and what is said where it will not do.
add_test(NAME "packaging/finding LibTorch"
         COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${PROJECT_SOURCE_DIR} -DBUILD_DIR=${PROJECT_BINARY_DIR}
                 -DGENERATOR=${CMAKE_GENERATOR} -DMAKE_PROGRAM=${CMAKE_MAKE_PROGRAM}
                 -DCXX=${CMAKE_CXX_COMPILER} -DLIBTORCH=${LibTorch_ROOT_DIR} -P
                 ${CMAKE_CURRENT_LIST_DIR}/find_libtorch/check.cmake)
set_tests_properties("packaging/finding LibTorch" PROPERTIES LABELS packaging TIMEOUT 120)
