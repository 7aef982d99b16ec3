# tessera_test(<name> [THREADED] SOURCES <files>... DEPENDS <libraries>...)
#
# A GoogleTest program <name>_test, known to ctest as unit.<name>.
# The target `unit_tests` builds every test program and nothing else; `threaded_tests` those whose tests start threads
# (THREADED), which is where the thread sanitizer has something to see.
function(tessera_test name)
  cmake_parse_arguments(ARG "THREADED" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name}_test ${ARG_SOURCES})
  target_link_libraries(${name}_test PRIVATE ${ARG_DEPENDS} GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_options(${name}_test PRIVATE -Wno-global-constructors)
  if(TESSERA_SANITIZE)
    target_compile_options(${name}_test PRIVATE -O0)  # half the time to compile; what is tested keeps its own level
  endif()
  add_test(NAME unit.${name} COMMAND ${name}_test WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set(labels unit)
  if(ARG_THREADED)
    list(APPEND labels threaded)
  endif()
  set_tests_properties(unit.${name} PROPERTIES LABELS "${labels}" TIMEOUT 600)
  foreach(group ${labels})
    if(NOT TARGET ${group}_tests)
      add_custom_target(${group}_tests)
    endif()
    add_dependencies(${group}_tests ${name}_test)
  endforeach()
endfunction()

# tessera_library(<name> [THREADED] [DEPENDS <libraries>...])
#
# One static library per folder: every *.cpp of the folder that calls this, but for
#   *_test.cpp  -> one GoogleTest program <name>_test, known to ctest
#   *_fuzz.cpp  -> one libFuzzer program each, only with TESSERA_FUZZ
#   *_bench.cpp -> compiled into the one program micro_bench (tests/bench/CMakeLists.txt), only with TESSERA_BENCH
#   main.cpp    -> left to the folder
function(tessera_library name)
  cmake_parse_arguments(ARG "THREADED" "" "DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cpp)
  file(GLOB fuzzers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_fuzz.cpp)
  file(GLOB benches CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_bench.cpp)
  if(tests OR fuzzers OR benches)
    list(REMOVE_ITEM sources ${tests} ${fuzzers} ${benches})
  endif()
  list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/main.cpp)

  if(sources)
    add_library(tessera_${name} STATIC ${sources})
    target_link_libraries(tessera_${name} PUBLIC ${ARG_DEPENDS} fmt::fmt)
  else()
    add_library(tessera_${name} INTERFACE)
    target_link_libraries(tessera_${name} INTERFACE ${ARG_DEPENDS} fmt::fmt)
  endif()

  if(tests)
    set(threaded)
    if(ARG_THREADED)
      set(threaded THREADED)
    endif()
    tessera_test(${name} ${threaded} SOURCES ${tests} DEPENDS tessera_${name})
  endif()
  if(benches)
    set_property(GLOBAL APPEND PROPERTY TESSERA_BENCHES ${benches})
    set_property(GLOBAL APPEND PROPERTY TESSERA_BENCHED tessera_${name})
  endif()
  if(TESSERA_FUZZ)
    foreach(fuzzer ${fuzzers})
      get_filename_component(program ${fuzzer} NAME_WE)
      add_executable(${program} ${fuzzer})
      target_link_libraries(${program} PRIVATE tessera_${name})
      target_link_options(${program} PRIVATE -fsanitize=fuzzer)
      set_property(GLOBAL APPEND PROPERTY TESSERA_FUZZERS ${program})
    endforeach()
  endif()
endfunction()
