# Target text_ffi: the Rust crate text-ffi as a static library. Versions of every crate come from text-ffi/pins.txt.
find_program(CARGO cargo HINTS $ENV{HOME}/.cargo/bin REQUIRED)
set(ffi_source ${CMAKE_SOURCE_DIR}/text-ffi)
if(DEFINED ENV{RHAPSODE_CARGO_TARGET_DIR})
  set(ffi_target $ENV{RHAPSODE_CARGO_TARGET_DIR})
else()
  set(ffi_target ${CMAKE_BINARY_DIR}/text-ffi)
endif()
# The crate is copied into the build tree before it is built, so that builds of several trees never meet in one lock file.
set(ffi_copy ${CMAKE_BINARY_DIR}/text-ffi-source)
set(ffi_library ${CMAKE_BINARY_DIR}/librhapsode_text_ffi.a)
file(GLOB ffi_rust CONFIGURE_DEPENDS ${ffi_source}/src/*.rs)
add_custom_command(
  OUTPUT ${ffi_library}
  COMMAND ${CMAKE_COMMAND} -D CARGO=${CARGO} -D SOURCE=${ffi_source} -D COPY=${ffi_copy} -D TARGET=${ffi_target}
          -D LIBRARY=${ffi_library} -P ${CMAKE_SOURCE_DIR}/cmake/build_text_ffi.cmake
  DEPENDS ${ffi_rust} ${ffi_source}/Cargo.toml ${ffi_source}/pins.txt ${CMAKE_SOURCE_DIR}/cmake/build_text_ffi.cmake
  COMMENT "Building text-ffi (cargo)" VERBATIM)
add_custom_target(text_ffi_build DEPENDS ${ffi_library})
add_library(text_ffi STATIC IMPORTED GLOBAL)
set_target_properties(text_ffi PROPERTIES IMPORTED_LOCATION ${ffi_library} INTERFACE_LINK_LIBRARIES
                                          "Threads::Threads;${CMAKE_DL_LIBS};m;gcc_s")
add_dependencies(text_ffi text_ffi_build)
