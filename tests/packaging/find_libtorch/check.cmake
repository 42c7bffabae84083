# Configures the project beside this file where LibTorch is whole, too old, torn or missing.
cmake_minimum_required(VERSION 3.25)
set(work "${BUILD_DIR}/packaging/find_libtorch")
file(REMOVE_RECURSE "${work}")
# A copy, beside which there is no .venv.
file(COPY "${SOURCE_DIR}/cmake/FindLibTorch.cmake" DESTINATION "${work}/modules/cmake")

# expect(REGEX arguments…): what CMake says, with no Python but the system's in sight; WORK stands for the folder, whose name may
# hold what a regular expression takes for its own.
function(expect regex)
  file(REMOVE_RECURSE "${work}/build")
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env --unset=LibTorch_ROOT --unset=Torch_DIR --unset=CMAKE_PREFIX_PATH
            PATH=/usr/bin:/bin ${CMAKE_COMMAND} -S "${CMAKE_CURRENT_LIST_DIR}" -B "${work}/build"
            -G "${GENERATOR}" -DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM} -DCMAKE_CXX_COMPILER=${CXX}
            -DMODULES=${work}/modules/cmake ${ARGN}
    OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  string(REPLACE "${work}" "WORK" output "${output}")
  if(NOT output MATCHES "${regex}")
    message(SEND_ERROR "${ARGN}: expected \"${regex}\" in: ${output}")
  endif()
endfunction()

file(CREATE_LINK "${LIBTORCH}" "${work}/unpacked" SYMBOLIC)
expect("version [2-9]\\.[0-9.]+ from your setting" -DCMAKE_PREFIX_PATH=${work}/unpacked)
expect("version [2-9]\\.[0-9.]+ from your setting" -DLibTorch_ROOT=${LIBTORCH})
expect("Torch_DIR is WORK, but there is no LibTorch around it" -DTorch_DIR=${work})
expect("LibTorch_ROOT is /nonexistent, but there is no LibTorch around it" -DLibTorch_ROOT=/nonexistent
       -DCMAKE_PREFIX_PATH=${work}/unpacked)

set(include "${work}/old/include/torch/csrc/api/include/torch")
file(WRITE "${include}/torch.h" "")
file(WRITE "${include}/version.h" "#define TORCH_VERSION_MAJOR 1\n#define TORCH_VERSION_MINOR 13\n"
                                  "#define TORCH_VERSION_PATCH 1\n")
file(WRITE "${work}/old/lib/libtorch_cpu.so" "")
expect("is 1.13.1, but flowmatch needs .* or newer. Install one" -DCMAKE_PREFIX_PATH=${work}/old)
expect("found: FALSE\\..*Configuring done" -DCMAKE_PREFIX_PATH=${work}/old -DOPTIONAL=ON)

file(MAKE_DIRECTORY "${work}/torn/lib")
file(CREATE_LINK "${LIBTORCH}/include" "${work}/torn/include" SYMBOLIC)
foreach(name IN ITEMS torch torch_cpu)
  file(WRITE "${work}/torn/lib/lib${name}.so" "")
endforeach()
expect("libc10 is missing from WORK/torn/lib" -DCMAKE_PREFIX_PATH=${work}/torn)

# Two at once: the consumer's find_package(Torch) has found another.
expect("Two LibTorchs would be mixed: find_package.Torch. found WORK/torn/lib/libtorch.so"
       -DCMAKE_PREFIX_PATH=${work}/unpacked -DTORCH_LIBRARY=${work}/torn/lib/libtorch.so)

if(NOT EXISTS /usr/include/torch AND NOT EXISTS /usr/local/include/torch)
  expect("There is no LibTorch here. Run cmake/bootstrap.sh")
endif()
