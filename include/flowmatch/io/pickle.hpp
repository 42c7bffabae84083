#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

/// A value of a pickle: what it says, not what Python would do about it. Nothing is ever run.
struct PickleNode {
  /// What kind of value it is.
  enum class Kind {
    none,        ///< None
    boolean,     ///< True or False
    integer,     ///< a whole number of up to 64 bits
    real,        ///< a float
    text,        ///< a str
    sequence,    ///< a list, tuple or set
    dict,        ///< a dict, OrderedDict or defaultdict
    global,      ///< a class or function by its name
    object,      ///< what calling one would give
    persistent,  ///< what lies outside the pickle, as storages do
    other        ///< bytes, and longer whole numbers
  };
  Kind kind = Kind::none;    ///< which of them
  std::int64_t integer = 0;  ///< its value; of a boolean 0 or 1
  double real = 0;           ///< its value
  std::string text{};        ///< its value in UTF-8; of a global "module.name"
  /// Indices of nodes: of a sequence its elements; of a dict keys and values in turn; of an object
  /// what is called, its arguments, what was added to it and its attributes; of a persistent its
  /// identity.
  std::vector<std::uint32_t> items{};
};

/// All values of a pickle. Nodes name each other by index, so that one may stand in several places,
/// or within itself.
struct Pickle {
  std::vector<PickleNode> nodes;  ///< in the order in which they were made
  std::uint32_t root = 0;         ///< the value that all others belong to
};

namespace detail {

class PickleReader {
 public:
  explicit PickleReader(std::string_view bytes) : bytes_(bytes) {
    for (const Kind kind : {Kind::none, Kind::boolean, Kind::boolean, Kind::sequence})
      nodes_.push_back({kind});
    nodes_[true_node].integer = 1;
  }
  Pickle read() {
    for (char code = take(1)[0]; code != '.'; code = take(1)[0]) run(code);
    const std::uint32_t root = pop();
    return {std::move(nodes_), root};
  }

 private:
  using Kind = PickleNode::Kind;
  using Items = std::vector<std::uint32_t>;
  static constexpr std::uint32_t none_node = 0, false_node = 1, true_node = 2, empty_tuple = 3;

  std::string_view take(std::size_t n) {
    if (n > bytes_.size()) throw DataError("its pickle is cut short");
    const std::string_view taken = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return taken;
  }
  /// Little-endian, as all but BINFLOAT.
  std::uint64_t number(std::size_t n) {
    std::uint64_t value = 0;
    const std::string_view digits = take(n);
    for (std::size_t i = n; i > 0; --i)
      value = value << 8U | static_cast<unsigned char>(digits[i - 1]);
    return value;
  }
  std::string line() {
    const std::size_t end = bytes_.find('\n');
    if (end == std::string_view::npos) throw DataError("its pickle is cut short");
    return std::string(take(end + 1).substr(0, end));
  }

  std::uint32_t add(PickleNode node) {
    nodes_.push_back(std::move(node));
    return static_cast<std::uint32_t>(nodes_.size() - 1);
  }
  void push(PickleNode node) { stack_.push_back(add(std::move(node))); }
  void push_integer(std::int64_t value) { push({Kind::integer, value}); }
  void push_text(std::size_t n) { push({Kind::text, 0, 0, std::string(take(n))}); }
  void push_other(std::size_t n) {
    take(n);
    push({Kind::other});
  }
  void push_long(std::size_t n) {  // two's complement of n bytes
    if (n > 8) return push_other(n);
    const std::uint64_t value = number(n);
    const std::size_t unused = 64 - 8 * n;
    push_integer(n == 0 ? 0 : static_cast<std::int64_t>(value << unused) >> unused);
  }

  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  std::uint32_t top() const {
    if (stack_.size() <= floor()) throw DataError("its pickle takes more than it gave");
    return stack_.back();
  }
  std::uint32_t pop() {
    const std::uint32_t node = top();
    stack_.pop_back();
    return node;
  }
  Items pop(std::size_t n) {
    if (stack_.size() < floor() + n) throw DataError("its pickle takes more than it gave");
    Items items(stack_.end() - static_cast<std::ptrdiff_t>(n), stack_.end());
    stack_.resize(stack_.size() - n);
    return items;
  }
  Items pop_to_mark() {
    if (marks_.empty()) throw DataError("its pickle takes more than it gave");
    Items items = pop(stack_.size() - floor());
    marks_.pop_back();
    return items;
  }
  /// To the list, set, dict or object that lies on the top.
  void add_to_top(const Items& items) {
    PickleNode& node = nodes_[top()];
    const bool pairs = node.kind == Kind::dict;
    if ((node.kind != Kind::sequence && !pairs && node.kind != Kind::object) ||
        stack_.back() == empty_tuple || (pairs && items.size() % 2 != 0)) {
      throw DataError("its pickle adds to what holds nothing");
    }
    node.items.insert(node.items.end(), items.begin(), items.end());
  }
  void push_call(std::uint32_t callable, std::uint32_t arguments) {
    const std::string& name = nodes_[callable].text;
    // LibTorch's own writer says so of which type a value is, the first argument.
    if (name.rfind("torch.jit._pickle.", 0) == 0 && !nodes_[arguments].items.empty()) {
      stack_.push_back(nodes_[arguments].items.front());
      return;
    }
    const bool is_dict = name == "collections.OrderedDict" && nodes_[arguments].items.empty();
    push(is_dict || name == "collections.defaultdict"
             ? PickleNode{Kind::dict}
             : PickleNode{Kind::object, 0, 0, {}, {callable, arguments}});
  }
  void fetch(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) throw DataError("its pickle fetches what it never kept");
    stack_.push_back(found->second);
  }

  void run(char code) {
    switch (code) {
      case '\x80': {  // PROTO
        const std::uint64_t protocol = number(1);
        if (protocol > 5)
          throw DataError("its pickle is of protocol " + std::to_string(protocol) +
                          "; write it by torch.save's default, 2");
        break;
      }
      // clang-format off
      case '\x95': take(8); break;                                              // FRAME
      case 'N': stack_.push_back(none_node); break;
      case '\x88': stack_.push_back(true_node); break;
      case '\x89': stack_.push_back(false_node); break;
      case 'K': push_integer(static_cast<std::int64_t>(number(1))); break;      // BININT1
      case 'M': push_integer(static_cast<std::int64_t>(number(2))); break;      // BININT2
      case 'J': push_integer(static_cast<std::int32_t>(number(4))); break;      // BININT
      case '\x8a': push_long(number(1)); break;                                 // LONG1
      case '\x8b': push_long(number(4)); break;                                 // LONG4
      case 'G': {                                                               // BINFLOAT
        std::uint64_t bits = 0;
        for (const char digit : take(8)) bits = bits << 8U | static_cast<unsigned char>(digit);
        push({Kind::real, 0, std::bit_cast<double>(bits)});
        break;
      }
      case 'X': case 'T': push_text(number(4)); break;          // BINUNICODE, BINSTRING
      case '\x8c': case 'U': push_text(number(1)); break;       // the same, short
      case '\x8d': push_text(number(8)); break;                 // BINUNICODE8
      case 'B': push_other(number(4)); break;                   // BINBYTES
      case 'C': push_other(number(1)); break;                   // SHORT_BINBYTES
      case '\x8e': case '\x96': push_other(number(8)); break;   // BINBYTES8, BYTEARRAY8
      case '(': marks_.push_back(stack_.size()); break;         // MARK
      case ')': stack_.push_back(empty_tuple); break;
      case ']': case '\x8f': push({Kind::sequence}); break;     // EMPTY_LIST, EMPTY_SET
      case '}': push({Kind::dict}); break;                      // EMPTY_DICT
      case '\x85': case '\x86': case '\x87':                    // TUPLE1, TUPLE2, TUPLE3
        push({Kind::sequence, 0, 0, {}, pop(static_cast<std::size_t>(code - '\x84'))}); break;
      case 't': case 'l': case '\x91':                          // TUPLE, LIST, FROZENSET
        push({Kind::sequence, 0, 0, {}, pop_to_mark()}); break;
      case 'd': {                                               // DICT
        const Items items = pop_to_mark();
        push({Kind::dict});
        add_to_top(items);
        break;
      }
      case 'a': add_to_top(pop(1)); break;                      // APPEND
      case 's': add_to_top(pop(2)); break;                      // SETITEM
      case 'e': case 'u': case '\x90': add_to_top(pop_to_mark()); break;  // APPENDS, SETITEMS, ADDITEMS
      case 'c': {                                               // GLOBAL
        const std::string module = line();
        push({Kind::global, 0, 0, module + "." + line()});
        break;
      }
      case '\x93': {                                            // STACK_GLOBAL
        const Items names = pop(2);
        const PickleNode &module = nodes_[names[0]], &name = nodes_[names[1]];
        if (module.kind != Kind::text || name.kind != Kind::text || module.text.size() + name.text.size() > 1000)
          throw DataError("its pickle names what has no name");
        push({Kind::global, 0, 0, module.text + "." + name.text});
        break;
      }
      case 'R': case '\x81': {                                  // REDUCE, NEWOBJ
        const Items call = pop(2);
        push_call(call[0], call[1]);
        break;
      }
      case '\x92': {                                            // NEWOBJ_EX
        const Items call = pop(3);
        push_call(call[0], call[1]);
        break;
      }
      case 'b': {                                               // BUILD: an object's attributes
        const std::uint32_t state = pop();
        PickleNode& node = nodes_[top()];
        if (node.kind == Kind::object) node.items.push_back(state);
        break;
      }
      case 'Q': push({Kind::persistent, 0, 0, {}, pop(1)}); break;  // BINPERSID
      case 'q': memo_[number(1)] = top(); break;                // BINPUT
      case 'r': memo_[number(4)] = top(); break;                // LONG_BINPUT
      case '\x94': memo_.emplace(memo_.size(), top()); break;   // MEMOIZE
      case 'h': fetch(number(1)); break;                        // BINGET
      case 'j': fetch(number(4)); break;                        // LONG_BINGET
      case '0': pop(); break;                                   // POP
      case '1': pop_to_mark(); break;                           // POP_MARK
      case '2': stack_.push_back(top()); break;                 // DUP
      // clang-format on
      default:
        throw DataError(
            "its pickle has an instruction that is none of protocols 2 to 5; write it "
            "by torch.save's default, 2");
    }
  }

  std::string_view bytes_;
  std::vector<PickleNode> nodes_{};
  Items stack_{};
  std::vector<std::size_t> marks_{};
  std::unordered_map<std::uint64_t, std::uint32_t> memo_{};
};

}  // namespace detail

/// Reads `bytes` as a pickle of protocol 2 to 5 (Python's pickletools lists the instructions)
/// without running anything: of what Python would call there are the name and the arguments. Throws
/// DataError for what is no such pickle.
inline Pickle parse_pickle(std::string_view bytes) { return detail::PickleReader(bytes).read(); }

}}  // namespace flowmatch
