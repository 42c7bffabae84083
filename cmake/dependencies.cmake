# What the tests and examples need besides LibTorch: the installed package, else a pinned commit of its repository, built
# along. None of it reaches users of the library.
include(FetchContent)

macro(flowmatch_fetch name repository commit)
  message(STATUS "${name} is not installed: fetching ${repository} ${commit}")
  FetchContent_Declare(${name} GIT_REPOSITORY https://github.com/${repository}.git GIT_TAG ${commit}
                               OVERRIDE_FIND_PACKAGE)
  FetchContent_MakeAvailable(${name})
endmacro()

# fmt serves header-only: LibTorch ships headers of another version, for which no compiled fmt
# would link.
macro(flowmatch_find_fmt)
  find_package(fmt QUIET)
  if(NOT TARGET fmt::fmt-header-only)
    set(FMT_INSTALL OFF)
    flowmatch_fetch(fmt fmtlib/fmt 123913715afeb8a437e6388b4473fcc4753e1c9a) # 11.1.4
  endif()
endmacro()

macro(flowmatch_find_catch2)
  find_package(Catch2 QUIET)
  if(NOT TARGET Catch2::Catch2)
    flowmatch_fetch(Catch2 catchorg/Catch2 fa43b77429ba76c462b1898d6cd2f2d7a9416b14) # 3.7.1
  endif()
endmacro()

macro(flowmatch_find_cli11)
  find_package(CLI11 QUIET)
  if(NOT TARGET CLI11::CLI11)
    flowmatch_fetch(CLI11 CLIUtils/CLI11 4160d259d961cd393fd8d67590a8c7d210207348) # 2.5.0
  endif()
endmacro()

macro(flowmatch_find_json)
  find_package(nlohmann_json QUIET)
  if(NOT TARGET nlohmann_json::nlohmann_json)
    flowmatch_fetch(nlohmann_json nlohmann/json 55f93686c01528224f448c19128836e7df245f72) # 3.12.0
  endif()
endmacro()

macro(flowmatch_find_zlib_and_png)
  set(SKIP_INSTALL_ALL ON)
  find_package(ZLIB QUIET)
  if(NOT TARGET ZLIB::ZLIB)
    set(ZLIB_BUILD_EXAMPLES OFF)
    flowmatch_fetch(ZLIB madler/zlib 51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf) # 1.3.1
    target_include_directories(zlibstatic INTERFACE "${zlib_SOURCE_DIR}" "${zlib_BINARY_DIR}")
    add_library(ZLIB::ZLIB ALIAS zlibstatic)
  endif()
  find_package(PNG QUIET)
  if(NOT TARGET PNG::PNG)
    set(PNG_SHARED OFF)
    set(PNG_TESTS OFF)
    set(PNG_TOOLS OFF)
    flowmatch_fetch(PNG pnggroup/libpng 2b978915d82377df13fcbb1fb56660195ded868a) # 1.6.50
    target_include_directories(png_static INTERFACE "${png_SOURCE_DIR}" "${png_BINARY_DIR}")
    add_library(PNG::PNG ALIAS png_static)
  endif()
endmacro()
