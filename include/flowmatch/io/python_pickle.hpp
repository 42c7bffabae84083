#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// Bytes of the instruction that `rest` begins with (pickle protocol 2, as torch.save writes it;
/// Python's pickletools lists all). Throws DataError for one that is cut or unknown.
inline std::size_t pickle_instruction_size(std::string_view rest) {
  const auto number = [&](std::size_t bytes) {  // little-endian, behind the opcode
    if (rest.size() < 1 + bytes) throw DataError("its pickle is cut short");
    std::size_t value = 0;
    for (std::size_t i = bytes; i > 0; --i)
      value = value << 8U | static_cast<unsigned char>(rest[i]);
    return value;
  };
  std::size_t size = 1;
  switch (rest[0]) {
    case 'q':
    case 'h':
    case 'K':
    case '\x80':  // BINPUT, BINGET, BININT1, PROTO
      size = 2;
      break;
    case 'M':  // BININT2
      size = 3;
      break;
    case 'J':
    case 'r':
    case 'j':  // BININT, LONG_BINPUT, LONG_BINGET
      size = 5;
      break;
    case 'G':  // BINFLOAT
      size = 9;
      break;
    case 'X':  // BINUNICODE
      size = 5 + number(4);
      break;
    case '\x8a':  // LONG1
      size = 2 + number(1);
      break;
    case 'c': {  // GLOBAL: two lines
      const std::size_t first = rest.find('\n');
      const std::size_t second = rest.find('\n', std::min(first, rest.size() - 1) + 1);
      size = second == std::string_view::npos ? second : second + 1;
      break;
    }
    default:  // without operands
      if (std::string_view("().NR]}Qabestu\x81\x85\x86\x87\x88\x89").find(rest[0]) ==
          std::string_view::npos) {
        throw DataError("its pickle is not one of protocol 2, torch.save's default");
      }
  }
  if (size > rest.size()) throw DataError("its pickle is cut short");
  return size;
}

}  // namespace detail

/// The pickle of a Python state_dict in words that LibTorch's unpickler knows. That takes every
/// OrderedDict for nothing, so here it becomes a plain dict; and an object with attributes (an
/// OrderedDict with `_metadata`) becomes the tuple (object, attributes). All other instructions
/// stay as they are. Throws DataError for what torch.save does not write.
inline std::string plain_pickle(std::string_view pickle) {
  constexpr std::string_view ordered_dict = "ccollections\nOrderedDict\n";
  std::string plain;
  std::string again;  // the instruction that fetches OrderedDict once more
  const auto next = [&] {
    const std::string_view instruction = pickle.substr(0, detail::pickle_instruction_size(pickle));
    pickle.remove_prefix(instruction.size());
    return instruction;
  };
  while (!pickle.empty()) {
    const std::string_view instruction = next();
    if (instruction == ordered_dict || instruction == again) {
      if (instruction == ordered_dict && !pickle.empty() &&
          (pickle[0] == 'q' || pickle[0] == 'r')) {
        again = next();  // remembers it: BINPUT or LONG_BINPUT
        again[0] = again[0] == 'q' ? 'h' : 'j';
      }
      if (pickle.substr(0, 2) != ")R") throw DataError("its OrderedDict has arguments");
      pickle.remove_prefix(2);
      plain += '}';  // EMPTY_DICT
    } else if (instruction == "b") {
      plain += '\x86';  // TUPLE2 for BUILD
    } else {
      plain += instruction;
    }
  }
  return plain;
}

}}  // namespace flowmatch
