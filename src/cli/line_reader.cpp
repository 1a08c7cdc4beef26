#include "cli/line_reader.h"

#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "cli/signals.h"

namespace rhapsode::cli {
namespace {

constexpr int kHistoryLines = 1000;

}  // namespace

struct LineReader::Editor {
  std::string prompt;
  std::string history_file;
  EditLine* edit = nullptr;
  History* history = nullptr;
  HistEvent event{};

  static char* show_prompt(EditLine* edit) {
    Editor* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    return self->prompt.data();
  }

  Editor(std::string prompt_, std::string history_file_)
      : prompt(std::move(prompt_)), history_file(std::move(history_file_)) {
    edit = el_init("rhapsode", stdin, stdout, stderr);
    history = history_init();
    ::history(history, &event, H_SETSIZE, kHistoryLines);
    ::history(history, &event, H_SETUNIQUE, 1);
    if (!history_file.empty()) ::history(history, &event, H_LOAD, history_file.c_str());
    el_set(edit, EL_CLIENTDATA, this);
    el_set(edit, EL_PROMPT, &show_prompt);
    el_set(edit, EL_EDITOR, "emacs");
    el_set(edit, EL_HIST, ::history, history);
    el_set(edit, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  }
  ~Editor() {
    history_end(history);
    el_end(edit);
  }

  void remember(const std::string& line) {
    ::history(history, &event, H_ENTER, line.c_str());
    if (!history_file.empty()) ::history(history, &event, H_SAVE, history_file.c_str());
  }
};

LineReader::LineReader(bool interactive, std::string prompt, std::string history_file) {
  if (interactive) editor_ = std::make_unique<Editor>(std::move(prompt), std::move(history_file));
}

LineReader::~LineReader() = default;

LineReader::Event LineReader::next(std::string& line) {
  if (!editor_) return next_of_pipe(line);
  int count = 0;
  errno = 0;
  const char* typed = el_gets(editor_->edit, &count);
  if (interrupted()) {
    el_reset(editor_->edit);
    return Event::interrupted;
  }
  if (typed == nullptr || count <= 0) return Event::end;
  line.assign(typed, static_cast<size_t>(count));
  while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
  if (!line.empty()) editor_->remember(line);
  return Event::line;
}

LineReader::Event LineReader::next_of_pipe(std::string& line) {
  for (;;) {
    const size_t newline = pending_.find('\n');
    if (newline != std::string::npos || (at_end_ && !pending_.empty())) {
      line = pending_.substr(0, newline);
      pending_.erase(0, newline == std::string::npos ? pending_.size() : newline + 1);
      if (line.ends_with('\r')) line.pop_back();
      return Event::line;
    }
    if (at_end_) return Event::end;
    char chunk[4096];
    const ssize_t got = ::read(STDIN_FILENO, chunk, sizeof chunk);
    if (interrupted()) return Event::interrupted;
    if (got > 0)
      pending_.append(chunk, static_cast<size_t>(got));
    else if (got == 0 || errno != EINTR)
      at_end_ = true;
  }
}

}  // namespace rhapsode::cli
