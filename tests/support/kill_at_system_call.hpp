#pragma once

#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <utility>

/// How a child ended that was to be killed: it was; it came to its end before; an error left it; or
/// it can't be traced here, as in some containers and under emulators.
enum class Kill { killed, finished, failed, impossible };

/// Runs `body` in a fork of this process, which is killed as it enters its system call number
/// `call`, counted from 0. With call = 0, 1, 2, … until `finished`, `body` has been stopped at
/// every moment at which what others see of it may change.
template <class F>
Kill kill_at_system_call(int call, F&& body) {
  constexpr int untraceable = 77;
  const pid_t child = ::fork();
  if (child < 0) return Kill::impossible;
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(untraceable);
    ::raise(SIGSTOP);
    try {
      std::forward<F>(body)();
    } catch (...) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status)) return Kill::impossible;
  const auto options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
  if (::ptrace(PTRACE_SETOPTIONS, child, nullptr, options) != 0) {
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
    return Kill::impossible;
  }
  bool entering = true;
  int signal = 0;
  for (int calls = 0;;) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, signal);
    ::waitpid(child, &status, 0);
    if (!WIFSTOPPED(status))
      return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? Kill::finished : Kill::failed;
    signal = WSTOPSIG(status);
    if (signal != (SIGTRAP | 0x80)) continue;  // a signal, which it gets
    signal = 0;
    if (entering && calls++ == call) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return Kill::killed;
    }
    entering = !entering;
  }
}
