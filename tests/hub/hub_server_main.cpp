// The test hub as a program: hub_server DIR serves the files of DIR as org/name (safetensors as large ones),
// prints its address and runs until stdin closes.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "hub/hub_server.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::map<std::string, rhapsode::testing::HubServer::File> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    std::ostringstream bytes;
    bytes << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    files[entry.path().filename().string()] = {bytes.str(), entry.path().extension() == ".safetensors"};
  }
  const rhapsode::testing::HubServer server(std::move(files));
  std::cout << server.endpoint() << std::endl;
  while (std::cin.get() != EOF) {
  }
  std::cout << server.body_bytes() << std::endl;
}
