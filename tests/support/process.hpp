#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/test.hpp"

/// A process that runs the test case under way again, told by FLOWMATCH_TEST_PHASE which part it
/// has in it. A fork would not do: LibTorch's threads do not come with it.
class Process {
 public:
  /// `variables` such as RANK=1 come before those of this process's environment.
  explicit Process(const std::string& phase, std::vector<std::string> variables = {}) {
    variables.push_back("FLOWMATCH_TEST_PHASE=" + phase);
    variables.push_back("OMP_NUM_THREADS=1");
    std::vector<char*> environment;
    for (std::string& variable : variables) environment.push_back(variable.data());
    for (char** other = environ; *other != nullptr; ++other) environment.push_back(*other);
    environment.push_back(nullptr);
    std::string exe = "/proc/self/exe";
    std::string name = Catch::getResultCapture().getCurrentTestName();
    char* arguments[] = {exe.data(), name.data(), nullptr};
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    const std::string log = log_path();
    posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    const int failed =
        posix_spawn(&pid_, exe.c_str(), &files, nullptr, arguments, environment.data());
    posix_spawn_file_actions_destroy(&files);
    if (failed != 0) throw std::runtime_error("cannot start a process");
  }
  /// Ends it where it still lives.
  ~Process() {
    if (pid_ == 0) return;
    send(SIGKILL);
    wait();
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal) const { kill(pid_, signal); }
  /// The exit code, or minus the signal.
  int wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  /// What it has printed so far.
  std::string output() const {
    std::ifstream file(log_path());
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  /// Waits until it has printed `text`. Returns false after twenty seconds.
  bool prints(const std::string& text) const {
    for (int i = 0; i < 4000; ++i) {
      if (output().find(text) != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

  /// Of the process that asks.
  static bool is_child() { return std::getenv("FLOWMATCH_TEST_PHASE") != nullptr; }
  static std::string phase() { return std::getenv("FLOWMATCH_TEST_PHASE"); }

 private:
  std::string log_path() const { return (folder_.path() / "output").string(); }

  TemporaryFolder folder_;
  pid_t pid_ = 0;
};
