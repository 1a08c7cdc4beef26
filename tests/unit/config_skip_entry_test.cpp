// Skip entries against transformers' own rule, and what cannot be matched.
#include "config/skip_entry.h"
#include "models/paths.h"

#include <gtest/gtest.h>

#include <set>

#include "base/json.h"

namespace rhapsode::config {
namespace {

TEST(SkipEntry, NamesTheModulesThatTransformersSkips) {
  const Json golden = read_json_file(paths::fixtures() + "/golden/skip_entries.json");
  ASSERT_GE(golden.at("named").size(), 40u);
  for (const auto& [entry, named] : golden.at("named").items()) {
    EXPECT_FALSE(skip_entry_problem(entry)) << entry << ": " << *skip_entry_problem(entry);
    const std::set<std::string> expected(named.begin(), named.end());
    for (const std::string module : golden.at("modules"))
      EXPECT_EQ(skip_matches(entry, module), expected.contains(module))
          << "\"" << entry << "\" and " << module;
  }
}

TEST(SkipEntry, SaysWhatItCannotMatch) {
  for (const char* entry :
       {"(",  ")",     "a)",  "(a",  "*a",     "+",     "?",     "a**",    "a{2}{3}",  "a{3,2}", "a{100000}",
        "[a", "[z-a]", "a\\", "\\1", "\\bmlp", "(?=a)", "(?!a)", "(?<=a)", "(?P<n>a)", "(?i)a",  "a++"})
    EXPECT_TRUE(skip_entry_problem(entry)) << entry;
  EXPECT_TRUE(skip_entry_problem(std::string(40, '(') + std::string(40, ')')));
}

// A backtracking matcher would need longer than anyone waits.
TEST(SkipEntry, NoPatternTakesLong) {
  const std::string name(400, 'a');
  EXPECT_TRUE(skip_matches("((((a*)*)*)*)*", name));
  EXPECT_FALSE(skip_matches("(a|a)*(a|aa)*(a*)*b", name));
}

}  // namespace
}  // namespace rhapsode::config
