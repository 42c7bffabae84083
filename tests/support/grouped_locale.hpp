#pragma once

#include <clocale>
#include <locale>
#include <string>

/// While it lives, the program's locale spells numbers as 1.234.567,5: C++'s by facets of its own,
/// C's where a German one is installed.
class GroupedLocale {
 public:
  GroupedLocale() {
    for (const char* name : {"de_DE.UTF-8", "de_DE.utf8", "de_DE"}) {
      if (std::setlocale(LC_ALL, name) != nullptr) break;
    }
  }
  ~GroupedLocale() {
    std::locale::global(cpp_);
    std::setlocale(LC_ALL, c_.c_str());
  }
  GroupedLocale(const GroupedLocale&) = delete;
  GroupedLocale& operator=(const GroupedLocale&) = delete;

 private:
  struct Grouped : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };

  std::string c_ = std::setlocale(LC_ALL, nullptr);
  std::locale cpp_ = std::locale::global(std::locale(std::locale::classic(), new Grouped));
};
