#!/usr/bin/env python3
"""Finds circles of imports between the files of each crate of the workspace.

  import_circles.py                the crates of this checkout
  import_circles.py --self-test    small made-up crates, whose verdicts are known

A file imports another if its code names something that is defined there: by `use`, or by a path
such as `crate::store::save` or `super::Shard`. An import of something that a third file
re-exports is an import of the file that defines it, so `mod child;` and `pub use child::Thing;`
are no imports of their parent. Code of tests, comments and strings do not count, and a method
is found through its type only.

Ends with 1 where there is a circle, and prints the lines that make it.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path

TOKEN = re.compile(r"""
    (?P<skip>\s+|//[^\n]*)
  | (?P<raw>\b(?:b|c)?r(?P<hashes>\#*)"(?:.|\n)*?"(?P=hashes))
  | (?P<string>\b(?:b|c)?"(?:[^"\\]|\\(?:.|\n))*"|"(?:[^"\\]|\\(?:.|\n))*")
  | (?P<char>b?'(?:[^'\\\n]|\\(?:u\{[^}]*\}|x..|.))')
  | (?P<lifetime>'\w+)
  | (?P<ident>(?:r\#)?[^\W\d]\w*)
  | (?P<number>\d[\w]*(?:\.\d\w*)?)
  | (?P<punct>::|->|=>|.)
""", re.VERBOSE)

CLOSING = {"{": "}", "(": ")", "[": "]"}
NAMED_ITEMS = {"struct", "enum", "union", "trait", "type", "const", "static", "fn"}
ENDS_WITH_SEMICOLON = {"use", "type", "const", "static", "let"}
ITEM_STARTS = NAMED_ITEMS | {"mod", "use", "impl", "let", "unsafe", "async", "extern"}
ELSEWHERE = "another crate"


class Token:
    def __init__(self, kind, text, line, inner=None):
        self.kind, self.text, self.line, self.inner = kind, text, line, inner

    def is_group(self, opening):
        return self.kind == "group" and self.text == opening


def without_block_comments(source):
    """The source with `/* .. */` replaced by spaces; they nest, which no expression can say."""
    if "/*" not in source:
        return source
    kept, at, depth = [], 0, 0
    while at < len(source):
        pair = source[at:at + 2]
        if pair == "/*":
            depth, at = depth + 1, at + 2
        elif depth and pair == "*/":
            depth, at = depth - 1, at + 2
        elif depth:
            kept.append("\n" if source[at] == "\n" else " ")
            at += 1
        else:
            # A whole token, so that `/*` in a string or a line comment opens nothing.
            found = TOKEN.match(source, at)
            kept.append(found.group())
            at = found.end()
    return "".join(kept)


def trees(source):
    """Tokens of a file; what stands between brackets is one token of kind `group`."""
    source = without_block_comments(source)
    line, found, open_groups = 1, [], []
    for match in TOKEN.finditer(source):
        kind, text = match.lastgroup, match.group()
        if match.group("raw") is not None:
            kind = "string"
        if kind != "skip":
            if kind == "punct" and text in CLOSING:
                open_groups.append((found, text, line))
                found = []
            elif kind == "punct" and open_groups and text == CLOSING[open_groups[-1][1]]:
                outer, opening, since = open_groups.pop()
                outer.append(Token("group", opening, since, found))
                found = outer
            else:
                text = text.removeprefix("r#") if kind == "ident" else text
                found.append(Token(kind, text, line))
        line += text.count("\n")
    return found


def possible_without_test(tokens):
    """Whether a predicate of `cfg` can hold in a build that is no test: True, False or None for
    `depends`."""
    parts, part = [], []
    for token in tokens:
        if token.text == "," and token.kind == "punct":
            parts.append(part)
            part = []
        else:
            part.append(token)
    parts = [one for one in parts + [part] if one]

    def one(tokens):
        name = tokens[0].text
        if len(tokens) == 2 and tokens[1].is_group("("):
            inner = possible_without_test(tokens[1].inner)
            if name == "all":
                return False if False in inner else True if set(inner) <= {True} else None
            if name == "any":
                return True if True in inner else False if set(inner) <= {False} else None
            return None if inner[0] is None else not inner[0]
        return False if name == "test" and len(tokens) == 1 else None

    return [one(tokens) for tokens in parts]


class Attributes:
    """What attributes say that matters here, and where the item behind them starts."""

    def __init__(self, tokens, at):
        self.for_tests, self.path, self.exports_macro = False, None, False
        while at < len(tokens) and tokens[at].text == "#" and tokens[at].kind == "punct":
            inner_form = at + 1 < len(tokens) and tokens[at + 1].text == "!"
            group = at + (2 if inner_form else 1)
            if group >= len(tokens) or not tokens[group].is_group("["):
                break
            self.read(tokens[group].inner)
            at = group + 1
        self.end = at

    def read(self, inside):
        if not inside:
            return
        name = inside[0].text
        if name == "cfg" and len(inside) > 1 and inside[1].kind == "group":
            self.for_tests |= False in possible_without_test(inside[1].inner)
        elif name == "test" and len(inside) == 1:
            self.for_tests = True
        elif name == "path" and len(inside) > 2:
            self.path = inside[2].text.strip('"')
        elif name == "macro_export":
            self.exports_macro = True


def end_of_item(tokens, at):
    """The place behind the item, statement, field or arm that starts here."""
    word = at
    while word < len(tokens) and (tokens[word].text in {"pub", "unsafe", "async", "extern", "default"}
                                  or tokens[word].is_group("(") or tokens[word].kind == "string"):
        word += 1
    start = tokens[word].text if word < len(tokens) else ""
    if start == "const" and word + 1 < len(tokens) and tokens[word + 1].text in {"fn", "unsafe"}:
        start = "fn"
    angles = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token.text == ";" and token.kind == "punct":
            return at
        if token.is_group("{") and start not in ENDS_WITH_SEMICOLON:
            return at
        if token.kind == "punct" and start not in ITEM_STARTS:
            angles += {"<": 1, ">": -1}.get(token.text, 0)
            if token.text == "," and angles <= 0:
                return at
    return at


class Module:
    """What a module defines and names. Inline modules share the file of their parent."""

    def __init__(self, name, parent, file, folder):
        self.name, self.parent, self.file, self.folder = name, parent, file, folder
        self.children, self.defined, self.imports, self.globs = {}, set(), {}, []
        self.uses, self.paths, self.bound = [], [], set()

    def root(self):
        return self if self.parent is None else self.parent.root()

    def is_below(self, other):
        return self is other or (self.parent is not None and self.parent.is_below(other))


class Use:
    def __init__(self, path, name, line, public):
        self.path, self.name, self.line, self.public = path, name, line, public


def read_use(tokens, line, public, prefix=()):
    """Each path of a use tree."""
    path, at = list(prefix), 0
    while at < len(tokens):
        token = tokens[at]
        if token.is_group("{"):
            part = []
            for inner in token.inner + [Token("punct", ",", token.line)]:
                if inner.text == "," and inner.kind == "punct":
                    if part:
                        yield from read_use(part, part[0].line, public, tuple(path))
                    part = []
                else:
                    part.append(inner)
            return
        if token.text == "*":
            yield Use(tuple(path), "*", line, public)
            return
        if token.text == "as":
            yield Use(tuple(path), tokens[at + 1].text, line, public)
            return
        if token.kind == "ident":
            if not (token.text == "self" and path):
                path.append(token.text)
        elif not path:
            path.append("::")
        at += 1
    if path:
        yield Use(tuple(path), path[-1], line, public)


class Crate:
    """The modules below one root file, and what each of them names."""

    def __init__(self, root_file):
        self.modules, self.missing = [], []
        self.root = self.module("crate", None, root_file, root_file.parent)
        self.read_file(self.root)

    def module(self, name, parent, file, folder):
        made = Module(name, parent, file, folder)
        self.modules.append(made)
        return made

    def read_file(self, module):
        tokens = trees(module.file.read_text(encoding="utf-8"))
        top = Attributes(tokens, 0)
        if top.for_tests and any(token.text == "!" for token in tokens[:2]):
            return
        self.read_items(module, tokens)

    def read_items(self, module, tokens):
        at = 0
        while at < len(tokens):
            attributes = Attributes(tokens, at)
            at = attributes.end
            if at >= len(tokens):
                return
            end = end_of_item(tokens, at)
            if not attributes.for_tests:
                self.read_item(module, tokens[at:end], attributes)
            at = end

    def read_item(self, module, tokens, attributes):
        at, public = 0, tokens[0].text == "pub"
        if public:
            at = 2 if len(tokens) > 1 and tokens[1].is_group("(") else 1
        words = [token.text for token in tokens]
        if at < len(tokens) and words[at] == "use":
            return self.read_uses(module, tokens[at + 1:-1], tokens[at].line, public)
        if at < len(tokens) and words[at] == "mod":
            return self.read_module(module, tokens[at + 1].text, tokens[at + 2], attributes)
        if words[:2] == ["macro_rules", "!"]:
            (module.root() if attributes.exports_macro else module).defined.add(words[2])
        elif len(words) > 2 and words[at + 1:at + 2] == ["!"]:
            # A macro may define what stands in it: `thread_local! { static NAME .. }`.
            module.defined.update(names_defined(tokens[-1].inner or tokens[-2].inner or []))
        elif "impl" not in words[:at + 2]:
            module.defined.update(names_defined(tokens[at:])[:1])
        self.read_code(module, tokens)

    def read_uses(self, module, tokens, line, public):
        for use in read_use(tokens, line, public):
            module.uses.append(use)
            if use.name == "*":
                module.globs.append(use.path)
            else:
                module.imports.setdefault(use.name, set()).add(use.path)

    def read_module(self, module, name, body, attributes):
        if body.is_group("{"):
            child = self.module(name, module, module.file, module.folder / name)
            module.children.setdefault(name, []).append(child)
            return self.read_items(child, body.inner)
        if attributes.path is not None:
            base = module.file.parent if module.parent is None or module.file != module.parent.file \
                else module.folder
            files = [base / attributes.path]
        else:
            files = [module.folder / f"{name}.rs", module.folder / name / "mod.rs"]
        for file in files:
            if file.exists():
                # Files named `mod.rs` or by `#[path]` have their children beside them.
                beside = file.name == "mod.rs" or attributes.path is not None
                child = self.module(name, module, Path(os.path.normpath(file)),
                                    file.parent if beside else file.parent / name)
                module.children.setdefault(name, []).append(child)
                return self.read_file(child)
        self.missing.append(f"{module.file}: mod {name}")

    def read_code(self, module, tokens):
        """Notes every path in code, and what is bound to a name there."""
        at = 0
        while at < len(tokens):
            attributes = Attributes(tokens, at)
            if attributes.end != at:
                at = attributes.end
                if attributes.for_tests:
                    at = end_of_item(tokens, at)
                continue
            token = tokens[at]
            before = tokens[at - 1].text if at else ""
            if token.kind == "group":
                self.read_code(module, token.inner)
            elif token.text == "use" and token.kind == "ident":
                end = end_of_item(tokens, at)
                self.read_uses(module, tokens[at + 1:end - 1], token.line, False)
                at = end
                continue
            elif token.kind == "ident" and before not in {".", "::", "fn"}:
                path = [token.text]
                while at + 2 < len(tokens) and tokens[at + 1].text == "::" \
                        and tokens[at + 2].kind == "ident":
                    path.append(tokens[at + 2].text)
                    at += 2
                after = tokens[at + 1] if at + 1 < len(tokens) else Token("punct", "", 0)
                called = after.is_group("(") or after.text in {"::", "!"}
                if len(path) == 1 and (before in {"let", "mut", "ref", "|"} or after.text == ":"):
                    module.bound.add(token.text)
                module.paths.append((tuple(path), token.line, called))
            at += 1

    # What a path means: modules, and files in which something is defined.

    def named(self, module, name, seen, within=False):
        """What a module knows by this name; with `within`, only what a path can go through."""
        key = (id(module), name)
        if key in seen:
            return set()
        seen = seen | {key}
        found = set(module.children.get(name, []))
        if within and found:
            return found
        if name in module.defined:
            found.add(module.file)
        for path in module.imports.get(name, ()):
            found |= self.meaning(module, path, seen)
        if not found:
            for path in module.globs:
                for target in self.meaning(module, path, seen):
                    if isinstance(target, Module) and target is not module:
                        found |= self.named(target, name, seen)
        if not found and any(name.startswith(one) for one in module.defined):
            # What a derive makes is named after its type: `WriteScalarsLaunch`.
            found.add(module.file)
        return found

    def meaning(self, module, path, seen=frozenset()):
        at = {module}
        for place, segment in enumerate(path):
            last = place + 1 == len(path)
            step = set()
            for target in at:
                if not isinstance(target, Module):
                    step.add(target)
                elif segment == "crate" and place == 0:
                    step.add(self.root)
                elif segment == "self" and place == 0:
                    step.add(target)
                elif segment == "super":
                    step.update({target.parent} - {None})
                else:
                    step |= self.named(target, segment, seen, within=not last) \
                        or ({ELSEWHERE} if place == 0 else set())
            at = step
        return at

    def edges(self):
        """(file, imported file): the lines that say so. And the paths that lead nowhere."""
        found, lost = {}, []

        def note(module, path, line, targets):
            for target in targets:
                if isinstance(target, Path) and target != module.file:
                    found.setdefault((module.file, target), {})[line, "::".join(path)] = None
            if not targets and path[0] in {"crate", "self", "super"} and len(path) > 1:
                lost.append(f"{module.file}:{line}: {'::'.join(path)}")

        said = {module: {} for module in self.modules}
        for module in self.modules:
            for use in module.uses:
                targets = self.meaning(module, use.path)
                if not use.public:
                    said[module].setdefault(use.name, set()).update(targets)
                if use.name != "*" and not (use.public and self.all_below(module, targets)):
                    note(module, use.path, use.line, targets)
            for path, line, called in module.paths:
                name = path[0]
                if len(path) == 1 and (name in {"crate", "self", "super"}
                                       or (name in module.bound and not called)):
                    continue
                targets = self.meaning(module, path)
                # What a private `use` names is noted with its line already.
                if name not in said[module] or any(one not in said[module][name] for one in targets):
                    note(module, path, line, targets)
        return found, lost

    def all_below(self, module, targets):
        below = {one.file for one in self.modules if one.is_below(module)}
        return all(not isinstance(target, Path) or target in below for target in targets)


def names_defined(tokens):
    """Names behind the words that define something, not looking into bodies."""
    return [name.text for word, name in zip(tokens, tokens[1:])
            if word.text in NAMED_ITEMS and word.kind == name.kind == "ident"
            and name.text not in NAMED_ITEMS | {"unsafe", "extern", "async"}]


def circles(edges):
    """The strongly connected parts with more than one file (Tarjan)."""
    graph = {}
    for one, other in edges:
        graph.setdefault(one, set()).add(other)
        graph.setdefault(other, set())
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            place = stack.index(node)
            part = stack[place:]
            del stack[place:]
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def crates(root):
    """Folders with a Cargo.toml and a src/."""
    for folder, inside, files in os.walk(root):
        if "Cargo.toml" in files and "src" in inside:
            yield Path(folder)
        inside[:] = sorted(name for name in inside
                           if name not in {"target", "src"} and not name.startswith("."))


def roots(crate):
    source = crate / "src"
    found = [source / "lib.rs", source / "main.rs", *sorted(source.glob("bin/*.rs")),
             *sorted(source.glob("bin/*/main.rs"))]
    return [file for file in found if file.exists()]


def report(root):
    """Prints every circle; how many there are."""
    count, files = 0, 0
    for folder in crates(root):
        for root_file in roots(folder):
            crate = Crate(root_file)
            edges, lost = crate.edges()
            files += len({module.file for module in crate.modules})
            for text in crate.missing + lost:
                print(f"note: not understood: {text}")
            for circle in circles(edges):
                count += 1
                print(f"\n{folder.relative_to(root)}: a circle of {len(circle)} files")
                for file in circle:
                    print(f"  {os.path.relpath(file, folder)}")
                    for (one, other), lines in sorted(edges.items()):
                        if one == file and other in circle:
                            for line, path in sorted(lines):
                                print(f"    line {line}: {path} of {os.path.relpath(other, folder)}")
    print(f"{count} circle{'s' * (count != 1)} of imports in {files} files")
    return count


# The verdict on each of these is known: how many circles it has.
MADE_UP = {
    "a circle of two": (1, {
        "lib.rs": "mod a; mod b;",
        "a.rs": "use crate::b::B; pub struct A(B);",
        "b.rs": "pub struct B; fn f(_: super::a::A) {}",
    }),
    "a circle through a re-export": (1, {
        "lib.rs": "mod part; mod user; pub use part::Thing;",
        "part/mod.rs": "mod thing; pub use self::thing::Thing;",
        "part/thing.rs": "use crate::user::User; pub struct Thing(User);",
        "user.rs": "use crate::part::Thing; pub struct User; fn f(_: Thing) {}",
    }),
    "a child and its parent": (1, {
        "lib.rs": "mod part;",
        "part/mod.rs": "mod child; pub use child::Child; pub struct Parent(Child);",
        "part/child.rs": "pub struct Child; impl Child { fn f(_: &super::Parent) {} }",
    }),
    "a glob": (1, {
        "lib.rs": "mod a; mod b;",
        "a.rs": "use crate::b::*; pub struct A(B);",
        "b.rs": "pub struct B; fn f() { use crate::a::A; let _: A; }",
    }),
    "re-exports alone": (0, {
        "lib.rs": "mod part; pub use part::{One, Two}; pub use part::sub::Deep;",
        "part/mod.rs": "mod one; mod two; pub mod sub; pub use one::One; pub(crate) use self::two::Two;",
        "part/one.rs": "pub struct One;",
        "part/two.rs": "use super::One; pub struct Two(One); fn f(_: crate::Deep) {}",
        "part/sub.rs": "use crate::part::One; pub struct Deep(One);",
    }),
    "a child below its parent": (0, {
        "lib.rs": "mod part;",
        "part/mod.rs": "mod child; pub use child::Child; pub struct Parent { child: u8 }",
        "part/child.rs": "pub struct Child(super::Parent);",
    }),
    "a circle in tests alone": (0, {
        "lib.rs": "mod a; mod b;",
        "a.rs": "use crate::b::B; pub struct A(B);",
        "b.rs": "pub struct B; #[cfg(test)] use crate::a::A; #[cfg(test)] mod tests { use crate::a::A; }\n"
                "#[cfg(all(test, unix))] mod more; #[test] fn t() { crate::a::A; }\n"
                "#[cfg(any(test, all(test, unix)))] use crate::a::A;",
        "b/more.rs": "use crate::a::A;",
    }),
    "no test for a feature": (1, {
        "lib.rs": "mod a; mod b;",
        "a.rs": "use crate::b::B; pub struct A(B);",
        "b.rs": "pub struct B; #[cfg(any(test, feature = \"x\"))] use crate::a::A;",
    }),
    "names in comments and strings": (0, {
        "lib.rs": "mod a; mod b;",
        "a.rs": "use crate::b::B; pub struct A(B);",
        "b.rs": "//! [`A`](crate::a::A)\n/* crate::a::A /* nested */ crate::a::A */ pub struct B;\n"
                "const TEXT: &str = \"crate::a::A\"; const RAW: &str = r#\"\"crate::a::A\"#;\n"
                "const QUOTE: char = '\"'; fn f<'a>() { g('\\''); } // crate::a::A\"",
    }),
}


def self_test():
    wrong = 0
    for name, (expected, files) in MADE_UP.items():
        with tempfile.TemporaryDirectory() as place:
            source = Path(place, "made-up", "src")
            for file, text in files.items():
                (source / file).parent.mkdir(parents=True, exist_ok=True)
                (source / file).write_text(text)
            (source.parent / "Cargo.toml").write_text("")
            told = io.StringIO()
            with contextlib.redirect_stdout(told):
                found = report(Path(place))
        if found != expected or "note:" in told.getvalue():
            wrong += 1
            print(f"WRONG {name}: {expected} expected\n{told.getvalue()}")
        else:
            print(f"{name}: {found} as expected")
    sys.exit(1 if wrong else 0)


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if sys.argv[1:]:
        sys.exit(__doc__)
    sys.exit(1 if report(Path(__file__).resolve().parent.parent) else 0)


if __name__ == "__main__":
    main()
