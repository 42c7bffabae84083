include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/flowmatch")
install(TARGETS flowmatch EXPORT flowmatchTargets FILE_SET HEADERS)
install(EXPORT flowmatchTargets NAMESPACE flowmatch:: DESTINATION "${_package_dir}")
configure_package_config_file(cmake/flowmatchConfig.cmake.in flowmatchConfig.cmake INSTALL_DESTINATION "${_package_dir}")
write_basic_package_version_file(flowmatchConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/flowmatchConfig.cmake" "${PROJECT_BINARY_DIR}/flowmatchConfigVersion.cmake"
              cmake/FindLibTorch.cmake DESTINATION "${_package_dir}")
install(FILES LICENSE README.md DESTINATION "${CMAKE_INSTALL_DOCDIR}")

# `cpack -G DEB` in the build folder makes libflowmatch-dev_…_all.deb.
if(PROJECT_IS_TOP_LEVEL)
  set(CPACK_GENERATOR DEB)
  set(CPACK_PACKAGE_NAME libflowmatch-dev)
  set(CPACK_PACKAGE_CONTACT "the flowmatch authors")
  set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE all)
  set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
  set(CPACK_DEBIAN_PACKAGE_SUGGESTS "cmake (>= 3.25), libgloo-dev")
  include(CPack)
endif()
