"""Finds the places of include/flowmatch that a one-line mutation can change, by tokens: no parser of C++, but
the code is as clang-format leaves it, where a binary operator stands between spaces and a template's bracket
does not. What is found wrongly does not compile, and is dropped by mutate.py."""
import bisect
import collections
import hashlib
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADERS = ROOT / "include/flowmatch"

# In `code`, which takes the place of source[begin:end], # stands for the switch: whether this mutant is on. A
# constant that the compiler works with has none: such a mutant is built by itself.
Mutant = collections.namedtuple("Mutant", "room file line text before after begin end code")

# Binary operators, from the loosest to the tightest.
LEVELS = [["||"], ["&&"], ["|"], ["^"], ["&"], ["==", "!="], ["<", "<=", ">", ">="], ["<<", ">>"], ["+", "-"],
          ["*", "/", "%"]]
BINDING = {operator: level for level, operators in enumerate(LEVELS) for operator in operators}
BINARY = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "&&": "||", "||": "&&", "+": "-",
          "-": "+", "*": "/", "/": "*", "%": "/"}
ASSIGNMENT = {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*="}
# Calls in a chain, x.abs(), that can be left out.
CALL = re.compile("abs|sqrt_?|square|clamp_min_?|clamp_max_?|clamp|clone|detach|neg|flatten|contiguous|t|"
                  "mul_|add_|div_")
TOKEN = re.compile(r"[A-Za-z_]\w*|\d(?:[eE][+-]|['\w.])*|->|\+\+|--|<<|<=|>=|==|!=|&&|\|\||[-+*/%|&^]=|::|\S")
INTEGER = re.compile(r"\d+")
FLOATING = re.compile(r"\d+\.\d*|\d[\d.]*e-?\d+")
STOPS = {";", ",", "?", ":", "=", "{", "}", "(", "[", "return", "throw", "else", "case", "|=", "&=", *ASSIGNMENT}
# What no statement that can be left out begins with, and what nothing is changed behind.
DECLARATION = re.compile(r"(return|if|for|while|do|else|switch|case|default|public|private|using|namespace|struct|"
                         r"class|template|typename|explicit|friend|enum|requires)\b")
FIXED = re.compile(r"\b(template|requires|concept|static_assert|using|constexpr|enum|friend|throw|noexcept)\b|#|\"")


def blanked(source):
    """The source with comments and the insides of strings as spaces, so that places stay the same."""
    def blank(match):
        return re.sub(r"[^\n\"']", " ", match[0]) if match[0][0] in "\"'" else re.sub(r"[^\n]", " ", match[0])
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])\'', blank, source,
                  flags=re.S)


def changed(word):
    """A number's neighbour, None for another word."""
    if INTEGER.fullmatch(word):
        return str(int(word) + 1)
    return repr(float(word) + 1) if FLOATING.fullmatch(word) else None


class Header:
    def __init__(self, path):
        self.path, self.source = path, path.read_text()
        self.code = blanked(self.source)
        self.tokens = [(m[0], m.start(), m.end()) for m in TOKEN.finditer(self.code)]
        self.words = [token[0] for token in self.tokens]
        self.starts = [m.end() for m in re.finditer("\n", self.source)]
        self.pair, self.fixed, self.constants, self.found = {}, [], [], []
        self.pair_brackets()
        self.find_fixed()

    def spaced(self, k):
        """Token k stands between spaces."""
        _, begin, end = self.tokens[k]
        return self.code[begin - 1].isspace() and self.code[end:end + 1].isspace()

    def pair_brackets(self):
        opened = []
        for k, word in enumerate(self.words):
            if word in "([{" or word == "<" and not self.spaced(k):
                opened.append(k)
            elif word in ")]}>" and opened and self.words[opened[-1]] + word in ("()", "[]", "{}", "<>"):
                self.pair[k] = opened.pop()
                self.pair[self.pair[k]] = k

    def find_fixed(self):
        """Template arguments, concepts and assertions, which stay as they are, and initialisers of constants."""
        for k, word in enumerate(self.words):
            if word == "<" and k in self.pair:
                self.fixed.append((k, self.pair[k]))
            elif word == "requires" or word == "constexpr" and self.words[k - 1] == "if":
                end = self.pair.get(k + 1, k)
                self.fixed.append((k, self.pair[end + 1] if self.words[end + 1] == "{" and word == "requires" else end))
            elif word in ("concept", "static_assert", "constexpr", "using"):
                end = self.right(k, -1, {";"})
                body = next((i for i in range(k, end) if self.words[i] == "{"), end)
                function = body < end and self.words[body - 1] in (")", "const", "noexcept")
                if word == "constexpr" and not function:
                    self.constants.append((k, end))
                else:
                    self.fixed.append((k, body if word == "constexpr" else end))

    def left(self, k, level):
        """The first token of the operand that ends before token k."""
        while k > 0:
            word, opener = self.words[k - 1], self.pair.get(k - 1, k)
            if opener < k - 1:
                if word == "}" or self.words[opener - 1] in ("if", "for", "while", "switch", "catch"):
                    return k
                k = opener
            elif word in STOPS or BINDING.get(word, 99) < level and self.spaced(k - 1):
                return k
            else:
                k -= 1
        return k

    def right(self, k, level, stops=STOPS - {"{", "(", "["}):
        """One past the last token of the operand that begins at token k."""
        while k < len(self.words):
            word = self.words[k]
            if word in stops or word in ")]}" or BINDING.get(word, 99) <= level and self.spaced(k):
                return k
            k = max(self.pair.get(k, k), k) + 1
        return k

    def chain(self, k):
        """One past the last token of the postfix expression a::b<c>(d).e[f] that begins at token k."""
        while k < len(self.words):
            word = self.words[k]
            if word in "([<" and k in self.pair:
                k = self.pair[k] + 1
            elif word in ("::", ".", "->") or re.match(r"\w", word) and self.words[k - 1] in ("::", ".", "->"):
                k += 1
            else:
                break
        return k

    def chain_back(self, k):
        """The first token of the postfix expression that ends before token k."""
        while k > 0 and self.words[k - 1] not in STOPS - {"("}:
            word = self.words[k - 1]
            if self.pair.get(k - 1, k) < k - 1:
                k = self.pair[k - 1]
            elif word in ("::", ".", "->") or re.match(r"\w", word):
                k -= 1
            else:
                break
            if self.words[k - 1] not in ("::", ".", "->") and not (
                    self.words[k] in "([<" and re.match(r"[\w)\]>]", self.words[k - 1])) and \
                    self.words[k] not in ("::", ".", "->"):
                break
        return k

    def text(self, first, last):
        """Tokens [first, last) on one line."""
        return re.sub(r"\s*\n\s*", " ", self.source[self.tokens[first][1]:self.tokens[last - 1][2]])

    def add(self, first, last, after, code):
        begin, end = self.tokens[first][1], self.tokens[last - 1][2]
        if first >= last or self.code[begin:end].split() != self.source[begin:end].split() and '"' not in code:
            return  # a comment within
        line = bisect.bisect(self.starts, begin)
        self.found.append(Mutant(self.path.parent.name, str(self.path.relative_to(HEADERS)), line + 1,
                                 self.source.split("\n")[line].strip(), self.text(first, last), after, begin, end, code))

    def mutants(self):
        begin = 0  # of the statement
        for k, word in enumerate(self.words):
            previous = self.words[k - 1] if k else ";"
            if previous in (";", "{", "}") or previous == ":" and self.words[k - 2] in ("public", "private"):
                begin = k
            head = self.words[self.pair[k - 1] - 1] if previous == ")" and k - 1 in self.pair else previous
            if any(first < k < last for first, last in self.fixed):
                continue
            if any(first < k < last for first, last in self.constants):
                if changed(word):
                    self.add(k, k + 1, changed(word), changed(word))
                continue
            if k == begin or head in ("if", "for", "else"):
                self.statement(k)
            if not FIXED.search(self.code[self.tokens[begin][1]:self.tokens[k][2]]):
                self.expression(k, word)
        return self.found

    def statement(self, k):
        """A statement that can be left out: a call, an assignment, ++, throw, break, continue."""
        end = self.right(k, -1, {";"})
        if end >= len(self.words) or self.words[end] != ";" or DECLARATION.match(self.words[k]):
            return
        text = self.text(k, end)
        changed = re.split(r" (?:=|[-+*/|&]=) ", text, maxsplit=1)
        bare = re.sub(r"\(.*\)|<.*>|\[.*\]", "", changed[0])  # a declaration has a space between type and name
        if re.match(r"throw\b|break$|continue$|\+\+|--", text) or " " not in bare and (
                len(changed) == 2 or text.endswith(")") and re.match(r"[\w*]", text)):
            self.add(k, end + 1, "", "{ if (!#) " + text + "; }")

    def expression(self, k, word):
        words, text = self.words, self.text

        def replace(first, last, new):
            self.add(first, last, new, f"(# ? ({new}) : ({text(first, last)}))")
        if word in BINARY and self.spaced(k):
            first, last = self.left(k, BINDING[word]), self.right(k + 1, BINDING[word])
            if first < k:
                replace(first, last, f"{text(first, k)} {BINARY[word]} {text(k + 1, last)}")
        elif word in ASSIGNMENT:
            first, last = self.left(k, -1), self.right(k + 1, -1, {";", ","})
            replace(first, last, f"{text(first, k)} {ASSIGNMENT[word]} {text(k + 1, last)}")
        elif word == "if" and words[k + 1] == "(":
            condition = text(k + 2, self.pair[k + 1])
            if not re.search(";|^const|^auto", condition):
                self.add(k + 2, self.pair[k + 1], f"!({condition})", f"# != static_cast<bool>({condition})")
        elif word == "?":
            first = self.left(k, -1)
            self.add(first, k, f"!({text(first, k)})", f"(# != static_cast<bool>({text(first, k)}))")
        elif word == "return" and words[k + 1] not in (";", "{", "*"):
            last = self.right(k + 1, -1, {";"})
            value = text(k + 1, last)
            self.add(k, last, f"return another than {value}", f"return # ? fm_other({value}) : {value}")
        elif word in ("true", "false"):
            self.add(k, k + 1, "false" if word == "true" else "true", f"(# != {word})")
        elif changed(word):
            replace(k, k + 1, changed(word))
            if word == "1":
                replace(k, k + 1, "0")
        elif word in ("min", "max") and words[k - 2:k] == ["std", "::"] and self.chain(k + 1) > k + 1:
            last = self.chain(k + 1)
            replace(k - 2, last, "std::" + {"min": "max", "max": "min"}[word] + text(k + 1, last))
        elif word == "." and CALL.fullmatch(words[k + 1]) and words[k + 2] == "(":
            replace(self.chain_back(k), self.pair[k + 2] + 1, text(self.chain_back(k), k))
        elif word in "!-" and re.match(r"[\w(]", words[k + 1]) and not self.code[self.tokens[k][2]].isspace():
            last = self.chain(k + 2 if re.match(r"\w", words[k + 1]) else k + 1)
            if word == "!":  # of a pointer or optional, too, which would swallow the bool
                self.add(k, last, text(k + 1, last), f"(# == static_cast<bool>({text(k + 1, last)}))")
            else:
                replace(k, last, text(k + 1, last))


def key(mutant):
    """What a verdict belongs to: the file, the line's text, the mutation."""
    return mutant.file, mutant.text.replace("\t", " "), f"{mutant.before} -> {mutant.after or '(nothing)'}"


def candidates(room, seed):
    """All mutants of a room, in an order that only the seed and each mutant's own text decide: where a line
    changes, the choice of the others stays."""
    unique = {}
    for path in sorted((HEADERS / room).glob("*.hpp")):
        for mutant in Header(path).mutants():
            unique.setdefault(key(mutant), mutant)  # of lines that are the same, the first
    return sorted(unique.values(), key=lambda m: hashlib.sha256(f"{seed}{key(m)}".encode()).digest())


def choose(room, seed, count, refused):
    """The first `count`, no two of which change the same text, without those whose keys are `refused`; at most a
    tenth are constants."""
    chosen, constants = [], count // 10
    for mutant in candidates(room, seed):
        apart = all(mutant.file != other.file or mutant.end <= other.begin or other.end <= mutant.begin
                    for other in chosen)
        if len(chosen) < count and apart and key(mutant) not in refused and ("#" in mutant.code or constants > 0):
            chosen.append(mutant)
            constants -= "#" not in mutant.code
    return chosen
