# Every kernel set is compiled on every machine and chosen at run time; only these files see wide instructions.
set(isa ${CMAKE_SOURCE_DIR}/src/kernels/isa)
set_source_files_properties(${isa}/avx2.cpp PROPERTIES COMPILE_OPTIONS "-O3;-mavx2;-mfma;-mf16c")
set_source_files_properties(${isa}/avx512.cpp PROPERTIES COMPILE_OPTIONS
                            "-O3;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx2;-mfma;-mf16c;-mprefer-vector-width=512")
