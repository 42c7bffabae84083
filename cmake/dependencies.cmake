# What the project needs besides LibTorch: the installed package first, else a pinned release from its own repository.
include(FetchContent)

# fmt serves header-only: LibTorch ships headers of another version, for which no compiled fmt would link.
macro(flowmatch_find_fmt)
  find_package(fmt QUIET)
  if(NOT TARGET fmt::fmt-header-only)
    FetchContent_Declare(fmt GIT_REPOSITORY https://github.com/fmtlib/fmt.git
                             GIT_TAG 123913715afeb8a437e6388b4473fcc4753e1c9a) # 11.1.4
    FetchContent_MakeAvailable(fmt)
  endif()
endmacro()

macro(flowmatch_find_catch2)
  find_package(Catch2 QUIET)
  if(NOT TARGET Catch2::Catch2)
    FetchContent_Declare(Catch2 GIT_REPOSITORY https://github.com/catchorg/Catch2.git
                                GIT_TAG fa43b77429ba76c462b1898d6cd2f2d7a9416b14) # 3.7.1
    FetchContent_MakeAvailable(Catch2)
    list(APPEND CMAKE_MODULE_PATH "${catch2_SOURCE_DIR}/extras")
  endif()
  list(APPEND CMAKE_MODULE_PATH "${Catch2_DIR}")
endmacro()

macro(flowmatch_find_cli11)
  find_package(CLI11 QUIET)
  if(NOT TARGET CLI11::CLI11)
    FetchContent_Declare(CLI11 GIT_REPOSITORY https://github.com/CLIUtils/CLI11.git
                               GIT_TAG 4160d259d961cd393fd8d67590a8c7d210207348) # 2.5.0
    FetchContent_MakeAvailable(CLI11)
  endif()
endmacro()
