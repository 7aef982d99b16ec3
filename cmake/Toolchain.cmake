# The language, the warnings and the sanitizers, for every target alike.
set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  message(FATAL_ERROR
    "Tessera needs clang 19 (Debian: apt install clang-19) or GCC 13 and newer; this is GCC ${CMAKE_CXX_COMPILER_VERSION}, "
    "which miscompiles C++23 code. Configure with a preset (cmake --preset release) or with -DCMAKE_CXX_COMPILER=clang++-19.")
endif()

option(TESSERA_FUZZ "Build the libFuzzer targets (clang only)" OFF)
option(TESSERA_BENCH "Make the target micro_bench (needs Google Benchmark)" OFF)
set(TESSERA_PROFILE "" CACHE STRING "Profile that guides the optimizer (clang 19 and newer), or 'record' to make one: ./dev profile")
set(TESSERA_SANITIZE "" CACHE STRING "Sanitizers for the whole build, as for -fsanitize=")

find_program(CCACHE ccache)
if(CCACHE)
  # Paths relative to the checkout, so that a second clone finds what the first one compiled.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE})
  add_compile_options($<$<CXX_COMPILER_ID:Clang>:-fdebug-compilation-dir=.>)
endif()
find_program(LLD ld.lld-19)
if(LLD)
  add_link_options(-fuse-ld=${LLD})
endif()

add_compile_options(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wnon-virtual-dtor -Wimplicit-fallthrough -Werror
  $<$<CXX_COMPILER_ID:Clang>:-Wno-missing-designated-field-initializers>)
if(TESSERA_SANITIZE)
  add_compile_options(-fsanitize=${TESSERA_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TESSERA_SANITIZE})
endif()
if(TESSERA_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
# Functions of one file are known by its name without the folders, which are another one's in another checkout.
set(profile_names "SHELL:-mllvm -static-func-full-module-prefix=false")
if(TESSERA_PROFILE STREQUAL "record")
  add_compile_options(-fprofile-generate ${profile_names})
  add_link_options(-fprofile-generate)
elseif(TESSERA_PROFILE AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 19)
  # Copied under a name of its own, so that a new profile compiles everything anew and ccache tells the two apart.
  # A function that has changed since the profile was made is compiled without it, silently.
  set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${TESSERA_PROFILE})
  file(MD5 ${TESSERA_PROFILE} digest)
  configure_file(${TESSERA_PROFILE} ${CMAKE_BINARY_DIR}/${digest}.profdata COPYONLY)
  add_compile_options(-fprofile-use=${digest}.profdata ${profile_names} -Wno-backend-plugin)
endif()

find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(PostgreSQL REQUIRED)
find_package(GTest REQUIRED)
include_directories(${CMAKE_SOURCE_DIR})
