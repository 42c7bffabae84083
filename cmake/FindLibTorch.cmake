# Finds LibTorch and makes the target LibTorch::LibTorch. Looks, in this order, where the user points (Torch_DIR,
# LibTorch_ROOT, CMAKE_PREFIX_PATH), in a .venv of the project, in the active Python's torch, and in the system.
#
# LibTorch's own TorchConfig.cmake is not used: that of a CUDA wheel stops with an error on a machine without the CUDA
# toolkit, and that of a CPU wheel finds a libc10 of Debian's first and mixes the two. The libraries are linked directly,
# all from one folder.

set(LibTorch_OLDEST 2.13)  # the oldest that was tested

# Sets LibTorch_ROOT_DIR and LibTorch_LIBRARY_DIR if `root` holds headers and libraries.
function(_libtorch_try root origin)
  if(LibTorch_ROOT_DIR OR NOT EXISTS "${root}/include/torch/csrc/api/include/torch/torch.h")
    return()
  endif()
  find_library(_libtorch NAMES torch_cpu PATHS "${root}/lib" "${root}/lib/${CMAKE_LIBRARY_ARCHITECTURE}"
               NO_DEFAULT_PATH NO_CACHE)
  if(_libtorch)
    get_filename_component(directory "${_libtorch}" DIRECTORY)
    set(LibTorch_ROOT_DIR "${root}" PARENT_SCOPE)
    set(LibTorch_LIBRARY_DIR "${directory}" PARENT_SCOPE)
    set(LibTorch_ORIGIN "${origin}" PARENT_SCOPE)
  endif()
endfunction()

unset(LibTorch_ROOT_DIR)
set(_pointed ${LibTorch_ROOT} $ENV{LibTorch_ROOT} ${CMAKE_PREFIX_PATH})
if(Torch_DIR)
  list(PREPEND _pointed "${Torch_DIR}/../../..")
endif()
foreach(_path IN LISTS _pointed)
  # A LibTorch, a Python's prefix, or what torch.utils.cmake_prefix_path prints.
  file(GLOB _inside "${_path}/lib/python*/site-packages/torch")
  foreach(_root IN ITEMS "${_path}" "${_path}/torch" "${_path}/../.." ${_inside})
    get_filename_component(_root "${_root}" ABSOLUTE)
    _libtorch_try("${_root}" "your setting")
  endforeach()
endforeach()
if(Torch_DIR AND NOT LibTorch_ROOT_DIR)
  message(FATAL_ERROR "Torch_DIR is ${Torch_DIR}, but there is no LibTorch around it. Point it at "
                      "<libtorch>/share/cmake/Torch, or leave it out.")
endif()

file(GLOB _venvs "${CMAKE_SOURCE_DIR}/.venv/lib/python*/site-packages/torch"
     "${CMAKE_CURRENT_LIST_DIR}/../.venv/lib/python*/site-packages/torch")
foreach(_root IN LISTS _venvs)
  _libtorch_try("${_root}" "the project's .venv")
endforeach()
if(NOT LibTorch_ROOT_DIR)
  find_program(_python NAMES python3 python NO_CACHE)
  if(_python)
    execute_process(COMMAND "${_python}" -c
                      "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
                    OUTPUT_VARIABLE _root OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(_root)
      _libtorch_try("${_root}" "the active Python")
    endif()
  endif()
endif()
_libtorch_try(/usr/local "the system")
_libtorch_try(/usr "the system")

if(LibTorch_ROOT_DIR)
  foreach(_header IN ITEMS torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    if(NOT LibTorch_VERSION AND EXISTS "${LibTorch_ROOT_DIR}/include/${_header}")
      file(READ "${LibTorch_ROOT_DIR}/include/${_header}" _text)
      if(_text MATCHES "TORCH_VERSION_MAJOR ([0-9]+).*TORCH_VERSION_MINOR ([0-9]+).*TORCH_VERSION_PATCH ([0-9]+)")
        set(LibTorch_VERSION "${CMAKE_MATCH_1}.${CMAKE_MATCH_2}.${CMAKE_MATCH_3}")
      endif()
    endif()
  endforeach()
  if(LibTorch_VERSION VERSION_LESS LibTorch_OLDEST)
    message(FATAL_ERROR "The LibTorch in ${LibTorch_ROOT_DIR} (from ${LibTorch_ORIGIN}) is ${LibTorch_VERSION}; flowmatch "
                        "needs ${LibTorch_OLDEST} or newer. Install one, `pip install torch` in a .venv of the project "
                        "for example, or point CMAKE_PREFIX_PATH at it.")
  endif()
  # A consumer that has found LibTorch by itself must mean the same one: two in one program abort at start-up.
  if(TARGET torch_cpu)
    get_target_property(_theirs torch_cpu LOCATION)
    get_filename_component(_theirs "${_theirs}" DIRECTORY)
    file(REAL_PATH "${_theirs}" _theirs)
    file(REAL_PATH "${LibTorch_LIBRARY_DIR}" _ours)
    if(NOT _theirs STREQUAL _ours)
      message(FATAL_ERROR "Two LibTorchs would be mixed: find_package(Torch) found ${_theirs}, flowmatch found ${_ours}. "
                          "Point CMAKE_PREFIX_PATH at the one that you mean.")
    endif()
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  LibTorch
  REQUIRED_VARS LibTorch_ROOT_DIR LibTorch_LIBRARY_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE
    "There is no LibTorch here. Run cmake/bootstrap.sh, or `python3 -m venv .venv && .venv/bin/pip install torch`, or \
unpack LibTorch and give -DCMAKE_PREFIX_PATH=<its folder>.")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  find_package(Threads REQUIRED)
  add_library(LibTorch::LibTorch INTERFACE IMPORTED GLOBAL)
  set(_libraries)
  foreach(_name IN ITEMS torch torch_cpu c10 torch_cuda c10_cuda)
    find_library(_library_${_name} NAMES ${_name} PATHS "${LibTorch_LIBRARY_DIR}" NO_DEFAULT_PATH NO_CACHE)
    if(_library_${_name})
      list(APPEND _libraries "${_library_${_name}}")
    elseif(NOT _name MATCHES "cuda")
      message(FATAL_ERROR "lib${_name} is missing from ${LibTorch_LIBRARY_DIR}, beside libtorch_cpu. Libraries of two "
                          "LibTorchs must not be mixed: install this one again, or point CMAKE_PREFIX_PATH at a whole one.")
    endif()
  endforeach()
  set_target_properties(
    LibTorch::LibTorch
    PROPERTIES INTERFACE_INCLUDE_DIRECTORIES
               "${LibTorch_ROOT_DIR}/include;${LibTorch_ROOT_DIR}/include/torch/csrc/api/include"
               INTERFACE_SYSTEM_INCLUDE_DIRECTORIES
               "${LibTorch_ROOT_DIR}/include;${LibTorch_ROOT_DIR}/include/torch/csrc/api/include")
  # libtorch only registers its CUDA half, so a linker that drops unused libraries would drop it.
  target_link_libraries(
    LibTorch::LibTorch INTERFACE -Wl,--no-as-needed ${_libraries} -Wl,--as-needed
                                 "-Wl,-rpath,${LibTorch_LIBRARY_DIR}" Threads::Threads)
endif()
