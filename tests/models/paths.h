// Where the tests find the source tree, the fixtures and what was built. One source file knows these paths,
// so that every other one compiles the same in each tree and a compiler cache serves them all.
#pragma once

#include <string>

namespace rhapsode::paths {

std::string source();     // the repository
std::string fixtures();   // tests/fixtures
std::string binary();     // the program rhapsode
std::string kill_shim();  // the library that kills at a call

}  // namespace rhapsode::paths
