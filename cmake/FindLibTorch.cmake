# Finds LibTorch and makes the target LibTorch::LibTorch. Looks, in this order, where the user
# points (Torch_DIR, LibTorch_ROOT, CMAKE_PREFIX_PATH; as CMake or environment variables), in a .venv
# of the project, in the active Python's torch, and in the system. A Torch_DIR or LibTorch_ROOT where
# there is none is an error: another LibTorch does not take its place.
#
# LibTorch's own TorchConfig.cmake is not used: that of a CUDA wheel stops with an error on a machine
# without the CUDA toolkit, and that of a CPU wheel finds a libc10 of Debian's first and mixes the
# two. The libraries are linked directly, all from one folder.
#
# Where LibTorch has a CUDA half and CUDA's headers are here too (those of the toolkit, or of the wheels
# beside LibTorch's; LibTorch_CUDA_INCLUDE_DIR points elsewhere), the target defines FLOWMATCH_CUDA.
#
# Sets LibTorch_FOUND, _VERSION, _ROOT_DIR, _LIBRARY_DIR, _ORIGIN and _CUDA. What will not do is not found,
# and the message says why; so find_package without REQUIRED goes on.

cmake_policy(VERSION 3.25) # whatever the project that calls find_package states
set(LibTorch_OLDEST 2.11) # the oldest that was tested

# Takes the LibTorch in `root` if there is one, and none was taken yet.
function(_libtorch_try root origin)
  if(LibTorch_ROOT_DIR OR NOT EXISTS "${root}/include/torch/csrc/api/include/torch/torch.h")
    return()
  endif()
  find_library(_library NAMES torch_cpu NO_DEFAULT_PATH NO_CACHE
               PATHS "${root}/lib" "${root}/lib/${CMAKE_LIBRARY_ARCHITECTURE}")
  if(_library)
    cmake_path(GET _library PARENT_PATH directory)
    set(LibTorch_ROOT_DIR "${root}" PARENT_SCOPE)
    set(LibTorch_LIBRARY_DIR "${directory}" PARENT_SCOPE)
    set(LibTorch_ORIGIN "${origin}" PARENT_SCOPE)
  endif()
endfunction()

# Tries what lies around _path, which the user has given: a LibTorch, a Python's prefix, or what
# torch.utils.cmake_prefix_path prints.
macro(_libtorch_try_around_path)
  file(GLOB _wheels "${_path}/lib/python*/site-packages/torch")
  foreach(_root IN ITEMS "${_path}" "${_path}/torch" "${_path}/../.." ${_wheels})
    cmake_path(ABSOLUTE_PATH _root NORMALIZE)
    string(REGEX REPLACE "/$" "" _root "${_root}")
    _libtorch_try("${_root}" "your setting")
  endforeach()
endmacro()

# Why what there is will not do.
function(_libtorch_refuse reason)
  string(REPLACE ";" "," reason "${reason}") # else it would be several arguments
  set(_reason "${reason}" PARENT_SCOPE)
  unset(LibTorch_ROOT_DIR PARENT_SCOPE)
endfunction()

unset(LibTorch_ROOT_DIR)
unset(LibTorch_VERSION)
unset(_reason)

foreach(_setting IN ITEMS Torch_DIR LibTorch_ROOT)
  set(_given ${${_setting}})
  if(NOT _given)
    set(_given $ENV{${_setting}})
  endif()
  if(NOT _given OR LibTorch_ROOT_DIR OR _reason)
    continue()
  endif()
  foreach(_path IN LISTS _given)
    if(_setting STREQUAL "Torch_DIR")
      string(APPEND _path "/../../..")
    endif()
    _libtorch_try_around_path()
  endforeach()
  if(NOT LibTorch_ROOT_DIR)
    _libtorch_refuse(
      "${_setting} is ${_given}, but there is no LibTorch around it. Point LibTorch_ROOT at \
<libtorch>, or Torch_DIR at <libtorch>/share/cmake/Torch, or leave it out.")
  endif()
endforeach()

if(NOT _reason)
  string(REPLACE ":" ";" _paths "$ENV{CMAKE_PREFIX_PATH}")
  foreach(_path IN LISTS CMAKE_PREFIX_PATH _paths)
    _libtorch_try_around_path()
  endforeach()
  file(GLOB _wheels "${CMAKE_SOURCE_DIR}/.venv/lib/python*/site-packages/torch"
       "${CMAKE_CURRENT_LIST_DIR}/../.venv/lib/python*/site-packages/torch")
  foreach(_root IN LISTS _wheels)
    cmake_path(NORMAL_PATH _root)
    _libtorch_try("${_root}" "the project's .venv")
  endforeach()
  if(NOT LibTorch_ROOT_DIR)
    find_program(_python NAMES python3 python NO_CACHE)
    if(_python)
      execute_process(
        COMMAND "${_python}" -c "import importlib.util as u
print(*u.find_spec('torch').submodule_search_locations)"
        OUTPUT_VARIABLE _root OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
      _libtorch_try("${_root}" "the active Python")
    endif()
  endif()
  _libtorch_try(/usr/local "the system")
  _libtorch_try(/usr "the system")
endif()

if(LibTorch_ROOT_DIR)
  foreach(_header IN ITEMS torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    set(_header "${LibTorch_ROOT_DIR}/include/${_header}")
    if(NOT LibTorch_VERSION AND EXISTS "${_header}")
      file(READ "${_header}" _text)
      if(_text MATCHES "VERSION_MAJOR ([0-9]+).*VERSION_MINOR ([0-9]+).*VERSION_PATCH ([0-9]+)")
        set(LibTorch_VERSION "${CMAKE_MATCH_1}.${CMAKE_MATCH_2}.${CMAKE_MATCH_3}")
      endif()
    endif()
  endforeach()
  if(LibTorch_VERSION VERSION_LESS LibTorch_OLDEST)
    _libtorch_refuse(
      "The LibTorch in ${LibTorch_ROOT_DIR} (from ${LibTorch_ORIGIN}) is ${LibTorch_VERSION}, but \
flowmatch needs ${LibTorch_OLDEST} or newer. Install one, `pip install torch` in a .venv of the \
project for example, or point CMAKE_PREFIX_PATH at it.")
  endif()
endif()

if(LibTorch_ROOT_DIR)
  # Who has called find_package(Torch) must have found the same: two in one program abort when it
  # starts.
  set(_theirs "${TORCH_LIBRARY}" "${c10_LIBRARY}" "${C10_LIBRARY}")
  if(TARGET torch_cpu)
    get_target_property(_location torch_cpu LOCATION)
    list(APPEND _theirs "${_location}")
  endif()
  file(REAL_PATH "${LibTorch_LIBRARY_DIR}" _ours)
  foreach(_library IN LISTS _theirs)
    if(EXISTS "${_library}")
      file(REAL_PATH "${_library}" _library)
      cmake_path(IS_PREFIX _ours "${_library}" _same)
      if(NOT _same)
        _libtorch_refuse(
          "Two LibTorchs would be mixed: find_package(Torch) found ${_library}, flowmatch found \
${_ours} (${LibTorch_ORIGIN}). Point CMAKE_PREFIX_PATH at the one that you mean, or let flowmatch \
alone find it.")
      endif()
    endif()
  endforeach()
  set(_libraries)
  foreach(_name IN ITEMS torch torch_cpu c10 torch_cuda c10_cuda)
    find_library(_library_${_name} NAMES ${_name} PATHS "${LibTorch_LIBRARY_DIR}" NO_DEFAULT_PATH
                 NO_CACHE)
    if(_library_${_name})
      list(APPEND _libraries "${_library_${_name}}")
    elseif(NOT _name MATCHES "cuda")
      _libtorch_refuse(
        "lib${_name} is missing from ${LibTorch_LIBRARY_DIR}, where libtorch_cpu is. Libraries of \
two LibTorchs must not be mixed: install this one again, or point CMAKE_PREFIX_PATH at a whole one.")
    endif()
  endforeach()
endif()

if(NOT LibTorch_ROOT_DIR AND NOT _reason)
  _libtorch_refuse(
    "There is no LibTorch here. Run cmake/bootstrap.sh, or `python3 -m venv .venv && .venv/bin/pip \
install torch`, or unpack LibTorch and give -DCMAKE_PREFIX_PATH=<its folder>.")
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  LibTorch
  REQUIRED_VARS LibTorch_ROOT_DIR LibTorch_LIBRARY_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "${_reason}")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  find_package(Threads REQUIRED)
  add_library(LibTorch::LibTorch INTERFACE IMPORTED GLOBAL)
  target_include_directories(
    LibTorch::LibTorch SYSTEM
    INTERFACE "${LibTorch_ROOT_DIR}/include" "${LibTorch_ROOT_DIR}/include/torch/csrc/api/include")
  # The wheels' libraries export parts of std::filesystem, and that of CUDA's libtorch.so jumps to
  # nowhere (remove_all): the system's comes first. libtorch only registers its CUDA half, so a linker
  # that drops unused libraries would drop it.
  target_link_libraries(LibTorch::LibTorch INTERFACE -Wl,--no-as-needed -l:libstdc++.so.6 ${_libraries}
                                                     -Wl,--as-needed ${CMAKE_THREAD_LIBS_INIT})
  target_link_options(LibTorch::LibTorch INTERFACE "-Wl,-rpath,${LibTorch_LIBRARY_DIR}")

  set(LibTorch_CUDA OFF)
  if(_library_torch_cuda)
    file(GLOB _wheels "${LibTorch_ROOT_DIR}/../nvidia/cu[0-9]*" "${LibTorch_ROOT_DIR}/../nvidia/cuda_runtime")
    set(_places ${_wheels} ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda)
    find_path(LibTorch_CUDA_INCLUDE_DIR crt/host_config.h PATHS ${_places} PATH_SUFFIXES include
              DOC "Folder of CUDA's headers")
    find_library(LibTorch_CUDART NAMES cudart libcudart.so.13 libcudart.so.12 PATHS ${_places}
                 PATH_SUFFIXES lib lib64 DOC "CUDA's runtime library")
    if(LibTorch_CUDA_INCLUDE_DIR AND LibTorch_CUDART)
      set(LibTorch_CUDA ON)
      cmake_path(GET LibTorch_CUDART PARENT_PATH _directory)
      target_compile_definitions(LibTorch::LibTorch INTERFACE FLOWMATCH_CUDA)
      target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE "${LibTorch_CUDA_INCLUDE_DIR}")
      target_link_libraries(LibTorch::LibTorch INTERFACE "${LibTorch_CUDART}")
      target_link_options(LibTorch::LibTorch INTERFACE "-Wl,-rpath,${_directory}")
    else()
      message(STATUS "LibTorch has CUDA, but CUDA's headers are not here: no CUDA graphs. Install the \
toolkit (or the wheel nvidia-cuda-runtime), or give -DLibTorch_CUDA_INCLUDE_DIR=<its include>")
    endif()
  endif()
endif()
