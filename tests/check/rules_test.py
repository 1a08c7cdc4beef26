"""Each rule is broken on purpose in a tree made for it and must be found, at its line; a clean tree must pass."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools" / "check"))
import check

TABLE = "| folder | may include | why |\n|---|---|---|\n| base | nothing | leaf |\n| plan | base/error | x |\n| cli | plan, base | y |\n"
CLEAN = {
    "docs/architecture.md": TABLE,
    "src/base/error.h": "#pragma once\n",
    "src/base/json.h": "#pragma once\n",
    "src/plan/plan.cpp": '#include "base/error.h"\n// printf( in a comment, "utils" too\nint plan() { return 1; }\n',
    "src/cli/main.cpp": '#include "base/json.h"\nint main() {\n  printf("utils");\n}\n',
}


def long_body(lines):
    return "".join(f"  step({number});\n" for number in range(lines))


class Rules(unittest.TestCase):
    def tree(self, folder, *changes):
        for path, text in {**CLEAN, **dict(changes)}.items():
            file = pathlib.Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return folder

    def check(self, *changes):
        with tempfile.TemporaryDirectory() as folder:
            return check.inspect(check.Tree(self.tree(folder, *changes)), with_format=False)

    def finds(self, place, rule, *changes):
        found = [f"{path}:{line}: {message}" for path, line, message in self.check(*changes)]
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(f"{place}: [{rule}]"), found)

    def passes(self, *changes):
        self.assertEqual(self.check(*changes), [])

    def test_the_program(self):
        """What it prints and how it exits, in a tree that git does not know and in one that it does."""
        bad = ("src/plan/plan.cpp", "void f() {\n  exit(1);\n}\n")
        for prepare in ([], [["git", "init", "-q"]]):
            for changes, status, place in (([], 0, ""), ([bad], 1, "src/plan/plan.cpp:2: ")):
                with self.subTest(git=bool(prepare), status=status), tempfile.TemporaryDirectory() as folder:
                    self.tree(folder, *changes)
                    for command in prepare:
                        subprocess.run(command, cwd=folder, check=True)
                    done = subprocess.run([sys.executable, "-B", check.__file__, "--no-format", "--root", folder],
                                          capture_output=True, text=True)
                    self.assertEqual(done.returncode, status, done.stderr)
                    self.assertEqual(done.stdout[: len(place)], place)
                    self.assertEqual(done.stdout.count("\n"), status)

    def test_clean_tree(self):
        self.passes()

    def test_walls(self):
        self.finds("src/plan/plan.cpp:2", "wall", ("src/plan/plan.cpp", '\n#  include "cli/main.h"\n'), ("src/cli/main.h", "\n"))
        self.finds("src/plan/plan.cpp:1", "wall", ("src/plan/plan.cpp", '#include "base/json.h"\n'))
        self.finds("src/plan/plan.cpp:1", "wall", ("src/plan/plan.cpp", '#include "../base/error.h"\n'))
        self.finds("src/plan/plan.cpp:1", "wall", ("src/plan/plan.cpp", "#include <base/error.h>\n"))
        self.finds("docs/architecture.md:1", "wall", ("src/rag/index.cpp", "\n"))
        self.finds("docs/architecture.md:1", "wall", ("docs/architecture.md", TABLE + "| rag | base | gone |\n"))
        self.finds("docs/architecture.md:1", "wall", ("docs/architecture.md", "no table"))

    def test_sizes(self):
        self.passes(("src/plan/long.cpp", "\n" * 800), ("src/plan/long.h", "\n" * 300))
        self.finds("src/plan/long.cpp:801", "size", ("src/plan/long.cpp", "\n" * 801))
        self.finds("src/plan/long.h:301", "size", ("src/plan/long.h", "\n" * 301))
        table = ("docs/architecture.md", TABLE + "| arch | base | z |\n")
        self.finds("src/arch/families/llama.cpp:151", "size", table, ("src/arch/families/llama.cpp", "\n" * 151))

    def test_functions(self):
        heads = [
            "int f(int a) {\n",
            "namespace n {\nclass C {\n  int f() const {\n",
            "C::C(int a) : a_{a}, b_(2) {\n",
            "auto f = [](int a) {\n",
            "TEST(Suite, name) {\n",
            "template <typename T>\nstruct Foo f(T a) {\n",
            "Foo::Foo() : text_{\"{\"}, mark_('{') {\n",
            "C& C::operator=(const C& other) noexcept {\n",
            "auto f(int a) -> std::map<int, int> {\n",
        ]
        for head in heads:
            first = head.count("\n")
            line = 3 if "namespace" in head else 1
            ends = "}\n" * (3 if "namespace" in head else 1)
            fits = 80 - 1 - (first - line + 1)
            with self.subTest(head=head):
                self.passes(("src/plan/long.cpp", head + long_body(fits) + ends))
                self.finds(f"src/plan/long.cpp:{line}", "function", ("src/plan/long.cpp", head + long_body(fits + 1) + ends))
        self.passes(("src/plan/table.cpp", "const Row kRows[] = {\n" + "  {1, f(2)},\n" * 100 + "};\n"))
        self.passes(("src/plan/many.cpp", "int f() {\n  return 1;\n}\n" * 100))
        self.finds("tools/x.py:1", "function", ("tools/x.py", "def f():\n" + "    f()\n" * 80))
        self.finds("ffi/src/lib.rs:2", "function",
                   ("ffi/src/lib.rs", "impl<'a> T<'a> {\nfn f<'a>(x: &'a str) -> char {\n" + "  g('{');\n" * 80 + "}\n}\n"))

    def test_names(self):
        self.finds("src/plan/plan_utils.cpp:1", "name", ("src/plan/plan_utils.cpp", "\n"))
        self.finds("src/plan/plan.cpp:1", "name", ("src/plan/plan.cpp", "struct CacheManager {};\n"))
        self.finds("src/plan/plan.cpp:2", "name", ("src/plan/plan.cpp", "\nint read_common();\n"))
        self.passes(("src/plan/plan.cpp", "using T = std::common_type_t<int>;\nint commonality = 1;\n"))

    def test_rooms(self):
        for path in ("try.cpp", "try.py", "try.sh", "try.rs"):
            with self.subTest(path=path):
                self.finds(f"{path}:1", "room", (path, "\n"))
        self.passes(("dev", "#!/bin/sh\n"), ("tools/try.py", "\n"))

    def test_words(self):
        for word in ("/wor" "k/x", "/roo" "t/.cache", "https://pyp" "i.org/simple", "index.crate" "s.io", "// TO" "DO: x"):
            with self.subTest(word=word):
                self.finds("notes.md:2", "word", ("notes.md", f"\n{word}\n"))

    def test_quiet(self):
        for line in ('  printf("x");', "  std::cout << 1;", '  std::getenv("HOME");', "  exit(1);"):
            with self.subTest(line=line):
                self.finds("src/plan/plan.cpp:2", "quiet", ("src/plan/plan.cpp", f"void f() {{\n{line}\n}}\n"))
        self.finds("src/plan/plan.cpp:1", "quiet", ("src/plan/plan.cpp", "#include <immintrin.h>\n"))
        self.passes(("src/plan/plan.cpp", "void f() { scope.exit(); snprintf(a, 1, b); }\n"))


if __name__ == "__main__":
    unittest.main()
