#include "kernels/kernels.h"
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>
using namespace rhapsode::kernels;
int main(int argc,char**argv){
  const auto& k=select_kernels("avx512-amx");
  for(uint64_t cols: {1024ull,4096ull}){
  std::vector<uint8_t> a(cols*32/2+cols/64*128+4096,0x5a), b(a);
  for(size_t i=0;i<a.size();++i) a[i]=b[i]=uint8_t(i*2654435761u>>13);
  // absmax: make finite floats
  for(uint64_t blk=0;blk<cols/64;++blk) for(int r=0;r<32;++r){ float f=0.01f; memcpy(&a[blk*(128+1024)+r*4],&f,4); memcpy(&b[blk*(128+1024)+r*4],&f,4);}  
  std::vector<float> x(cols,0.5f), y(64);
  auto run=[&](const char*n,auto f){ double best=1e9; for(int rep=0;rep<7;++rep){auto t=std::chrono::steady_clock::now(); int N=20000*1024/cols; for(int i=0;i<N;++i) f(); double s=std::chrono::duration<double>(std::chrono::steady_clock::now()-t).count()/N; if(s<best)best=s;} printf("%s cols %lu: %.2f ns a line, %.1f GB/s\n",n,cols,best*1e9/(2*cols/4.0),2*(cols*16+cols/64*128)/best/1e9);};
  run("codes",[&]{k.matrix->gemv_codes[(int)Format::nf4](a.data(),b.data(),x.data(),cols,y.data(),y.data()+32);});
  std::vector<int16_t> c(cols,3); std::vector<float> sc(cols/64,1.f);
  run("fixed",[&]{k.gemv_quantized[(int)Format::nf4](a.data(),b.data(),c.data(),sc.data(),cols,y.data(),y.data()+32);});
  }
}
