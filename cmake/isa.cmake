# Every kernel set is compiled on every machine and chosen at run time; only these files see wide instructions.
# Under a sanitizer -O3 costs minutes a file and finds nothing more: they keep the build's own level.
set(isa ${CMAKE_SOURCE_DIR}/src/kernels/isa)
set(isa_level "-O3")
if(RHAPSODE_SANITIZE)
  set(isa_level "-O1")
endif()
set_source_files_properties(${isa}/avx2.cpp PROPERTIES COMPILE_OPTIONS "${isa_level};-mavx2;-mfma;-mf16c")
set_source_files_properties(${isa}/avx512.cpp PROPERTIES COMPILE_OPTIONS
                            "${isa_level};-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx2;-mfma;-mf16c;-mprefer-vector-width=512")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # GCC 12 warns of its own intrinsics' deliberately undefined operands
  set_property(SOURCE ${isa}/avx512.cpp APPEND PROPERTY COMPILE_OPTIONS "-Wno-maybe-uninitialized;-Wno-uninitialized")
endif()
get_source_file_property(avx512 ${isa}/avx512.cpp COMPILE_OPTIONS)
set_source_files_properties(${isa}/avx512_vnni.cpp PROPERTIES COMPILE_OPTIONS "${avx512};-mavx512vnni")
set_source_files_properties(${isa}/avx512_bf16.cpp PROPERTIES COMPILE_OPTIONS "${avx512};-mavx512vnni;-mavx512bf16")
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")  # other machines have the reference set alone
  file(GLOB sets ${isa}/*.cpp)
  set_source_files_properties(${sets} PROPERTIES HEADER_FILE_ONLY TRUE)
endif()
