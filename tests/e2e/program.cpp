#include "program.h"
#include "models/paths.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace rhapsode::testing {
namespace {

struct Pipe {
  std::array<int, 2> ends{-1, -1};
  Pipe() { EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0); }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  void close_end(size_t end) {
    if (ends[end] >= 0) ::close(ends[end]);
    ends[end] = -1;
  }
};

pid_t start(const Launch& launch, const Pipe& in, const Pipe& out, const Pipe& err, const std::string& home) {
  std::vector<std::string> variables = {"PATH=/usr/bin:/bin", "HOME=" + home, "LC_ALL=C.UTF-8"};
  for (const auto& [name, value] : launch.environment) variables.push_back(name + "=" + value);
  const std::string binary = paths::binary();
  std::vector<char*> arguments = {const_cast<char*>(binary.c_str())};
  std::vector<char*> environment;
  for (const std::string& argument : launch.arguments)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  for (std::string& variable : variables) environment.push_back(variable.data());
  arguments.push_back(nullptr);
  environment.push_back(nullptr);
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::dup2(in.ends[0], STDIN_FILENO);
  ::dup2(out.ends[1], STDOUT_FILENO);
  ::dup2(err.ends[1], STDERR_FILENO);
  const rlimit limit{launch.file_limit_bytes, launch.file_limit_bytes};
  if (launch.file_limit_bytes > 0 && ::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(126);
  ::execve(binary.c_str(), arguments.data(), environment.data());
  ::_exit(127);
}

// Feeds stdin and gathers both outputs until they close.
void exchange(const Launch& launch, pid_t child, Pipe& in, Pipe& out, Pipe& err, Outcome& outcome) {
  size_t sent = 0;
  bool signalled = false;
  if (launch.input.empty())
    in.close_end(1);
  else
    ::fcntl(in.ends[1], F_SETFL, O_NONBLOCK);
  while (out.ends[0] >= 0 || err.ends[0] >= 0) {
    std::array<pollfd, 3> fds{{{out.ends[0], POLLIN, 0}, {err.ends[0], POLLIN, 0}, {in.ends[1], POLLOUT, 0}}};
    if (::poll(fds.data(), fds.size(), launch.patience_ms) <= 0) {
      ADD_FAILURE() << "the program hangs";
      ::kill(child, SIGKILL);
      return;
    }
    const auto drain = [](const pollfd& fd, Pipe& pipe, std::string& to) {
      if (fd.revents == 0) return;
      char chunk[65536];
      const ssize_t got = ::read(fd.fd, chunk, sizeof chunk);
      if (got > 0)
        to.append(chunk, static_cast<size_t>(got));
      else
        pipe.close_end(0);
    };
    drain(fds[0], out, outcome.out);
    drain(fds[1], err, outcome.err);
    if (fds[2].revents != 0) {
      const ssize_t put = ::write(in.ends[1], launch.input.data() + sent, launch.input.size() - sent);
      if (put > 0) sent += static_cast<size_t>(put);
      if (sent == launch.input.size() || (put < 0 && errno != EAGAIN)) in.close_end(1);
    }
    if (launch.signal != 0 && !signalled && !outcome.out.empty()) {
      signalled = true;
      ::kill(child, launch.signal);
    }
  }
}

}  // namespace

Outcome run_program(const Launch& launch) {
  ::signal(SIGPIPE, SIG_IGN);
  const Scratch home;
  Pipe in, out, err;
  Outcome outcome;
  const pid_t child = start(launch, in, out, err, home.path().string());
  in.close_end(0);
  out.close_end(1);
  err.close_end(1);
  exchange(launch, child, in, out, err, outcome);
  int status = 0;
  ::waitpid(child, &status, 0);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
  return outcome;
}

Outcome rhapsode(std::vector<std::string> arguments, const std::string& input) {
  return run_program({std::move(arguments), input, {}, 0});
}

std::string fixture(const std::string& name) {
  return paths::fixtures() + "/" + name;
}

std::string tiny_yaml(const std::string& checkpoint, const std::vector<std::string>& keys) {
  std::string yaml =
      "generator:\n  active_model: tiny\n  models:\n    tiny:\n      type: huggingface\n      model_id: \"" +
      checkpoint + "\"\n      torch_dtype: float32\n      do_sample: false\n      max_new_tokens: 8\n";
  for (const std::string& key : keys) yaml += "      " + key + "\n";
  return yaml;
}

std::string talking_checkpoint(const Scratch& scratch) {
  namespace fs = std::filesystem;
  const fs::path directory = scratch.path() / "talking";
  fs::create_directories(directory);
  for (const char* name : {"config.json", "model.safetensors"})
    fs::copy_file(fixture("golden/llama-mqa/" + std::string(name)), directory / name);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    fs::copy_file(fixture("cli/words/" + std::string(name)), directory / name);
  return directory.string();
}

}  // namespace rhapsode::testing
