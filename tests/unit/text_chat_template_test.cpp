// Chat templates: byte for byte as transformers renders them, bounded, and never fooled by what a message
// spells.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>

#include "base/json.h"
#include "models/paths.h"
#include "text/chat_template.h"

namespace rhapsode::text {
namespace {

const std::string kFixtures = paths::fixtures() + "/text/";

OrderedJson ordered(const std::string& file) {
  return OrderedJson::parse(read_file(file));
}

TEST(ChatTemplateGolden, RendersAsTransformers) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "byte_level");
  const OrderedJson golden = ordered(kFixtures + "renderings.json");
  size_t rendered = 0;
  for (const OrderedJson& entry : golden["cases"]) {
    const std::string name = entry["template"];
    const auto chat =
        ChatTemplate::from_source(golden["templates"][name].get<std::string>(), name, tokenizer);
    const OrderedJson& messages = golden["conversations"][entry["conversation"].get<size_t>()];
    RenderOptions options{.add_generation_prompt = entry["generation"].get<bool>(),
                          .tools = {},
                          .documents = {},
                          .extra = entry["extra"]};
    if (entry["tools"].get<bool>()) options.tools = golden["tools"];
    if (entry.contains("error")) {
      EXPECT_THROW(chat.render(messages, options), Error) << name << " " << messages.dump();
      continue;
    }
    ++rendered;
    EXPECT_EQ(chat.render(messages, options), entry["text"].get<std::string>()) << name;
    std::string text;
    const auto ids = chat.encode(messages, options, &text);
    EXPECT_EQ(text, entry["text"].get<std::string>());
    const bool spells_control = messages.dump().find("think>") != std::string::npos;
    if (!spells_control) {
      EXPECT_EQ(ids, entry["ids"].get<std::vector<uint32_t>>()) << name;
    }
  }
  EXPECT_GE(rendered, 150U);
}

TEST(ChatTemplate, LoadOrder) {
  const Tokenizer metaspace = Tokenizer::load(kFixtures + "metaspace");
  const Tokenizer bytes = Tokenizer::load(kFixtures + "byte_level");
  const Tokenizer prepend = Tokenizer::load(kFixtures + "prepend");
  EXPECT_NE(ChatTemplate::load(kFixtures + "metaspace", metaspace)->source().find("<<SYS>>"),
            std::string::npos);
  const auto listed = ChatTemplate::load(kFixtures + "byte_level", bytes);
  EXPECT_NE(listed->source().find("You are helpful"), std::string::npos);
  RenderOptions with_tools{.add_generation_prompt = true,
                           .tools = OrderedJson::parse(R"([{"type":"function"}])"),
                           .documents = {},
                           .extra = {}};
  const auto hello = OrderedJson::parse(R"([{"role":"user","content":"hi"}])");
  EXPECT_NE(listed->render(hello, with_tools).find("<tools>"), std::string::npos);
  EXPECT_FALSE(ChatTemplate::load(kFixtures + "prepend", prepend).has_value());
}

TEST(ChatTemplate, ErrorsSayWhere) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "byte_level");
  const auto hello = OrderedJson::parse(R"([{"role":"user","content":"hi"}])");
  try {
    ChatTemplate::from_source("line one\n{% for x in %}", "t.jinja", tokenizer);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::integrity);
    EXPECT_EQ(error.code, "bad-template");
    EXPECT_EQ(error.line, 2U);
    EXPECT_GT(error.column, 1U);
  }
  try {
    ChatTemplate::from_source("\n\n{{ raise_exception('no system role') }}", "t.jinja", tokenizer)
        .render(hello, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::usage);
    EXPECT_EQ(error.line, 3U);
    EXPECT_NE(error.message.find("no system role"), std::string::npos);
  }
  for (const char* bad : {"[]", "{}", "[7]", "null", "\"x\""})
    EXPECT_THROW(ChatTemplate::from_source("x", "t", tokenizer).render(OrderedJson::parse(bad), {}), Error)
        << bad;
}

TEST(ChatTemplate, MalformedTemplatesAreRefused) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "byte_level");
  const auto hello = OrderedJson::parse(R"([{"role":"user","content":"hi"}])");
  const std::vector<std::string> sources = {
      "{{",
      "{%",
      "{{ }}",
      "{% %}",
      "{% for %}",
      "{% for x in y %}",
      "{% if %}",
      "{% if x %}",
      "{% endif %}",
      "{% else %}",
      "{{ x | }}",
      "{{ x | nope }}",
      "{{ nope() }}",
      "{% nope %}",
      "{{ x is nope }}",
      "{{ 'a }}",
      "{{ (1 }}",
      "{{ [1 }}",
      "{{ {'a': } }}",
      "{% macro %}",
      "{% macro f( %}",
      "{% set %}",
      "{% set x %}",
      "{% raw %}",
      "{% break %}{% endfor %}",
      "{% include 'a' %}",
      "{% import 'a' as b %}",
      "{% extends 'a' %}",
      "{{ x.y.z }}",
      "{{ messages[0]['a']['b'] }}",
      "{{ 1 + 'a' }}",
      "{{ 1 / 0 }}",
      "{{ 1 % 0 }}",
      "{{ 'a' - 1 }}",
      "{{ messages() }}",
      "{{ messages.append(1) }}",
      "{{ x | tojson }}",
      "{{ messages | tojson(indent=100000000) }}",
      "{% generation %}",
      "{% endgeneration %}",
      "{{ ''.__class__ }}{{ ''.__class__.__mro__ }}",
      "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
      "{{ self._TemplateReference__context }}{{ self.x.y }}",
      "{{ ().__class__.__base__.__subclasses__() }}",
      "{{ request.application.__globals__ }}",
      "{{ lipsum.__globals__['os'] }}",
      "{{ messages|attr('__class__')|attr('x') }}{{ undefined_thing.x }}",
      "{{ config.items() }}"};
  EXPECT_GE(sources.size(), 45U);
  for (const std::string& source : sources)
    EXPECT_THROW(ChatTemplate::from_source(source, "bad.jinja", tokenizer).render(hello, {}), Error)
        << source;
}

const std::vector<std::string> kWrittenBombs = {
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{{ '-' * 10**9 }}",
    "{{ '-' * 999999999 }}",
    "{{ ('-' * 99999) * 99999 }}",
    "{{ [0] * 10**9 }}",
    "{{ [[0] * 9999] * 9999999 }}",
    "{{ 'x' | indent(10**9) }}",
    "{{ 'x\\nx' | indent('y' * 9999999) }}",
    "{{ range(10**8) | list }}",
    "{{ range(10**9) | sum }}",
    "{{ range(10**9) | join('x') }}",
    "{{ ('x' * 9999) | list | join('y' * 99999) }}",
    "{{ 'x' | center(10**9) }}",
    "{{ ('a' * 9999).replace('a', 'b' * 99999) }}",
    "{{ ('a' * 9999) | replace('a', 'b' * 99999) }}",
    "{{ ('a' * 99999).replace('', 'b' * 99999) }}",
    "{{ '%99999999d' | format(1) }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ 9 ** 999999999 }}",
    "{{ 2 ** 4096 }}",
    "{% for i in range(9999) %}{{ messages | tojson }}{{ 'x' * 9999 }}{% endfor %}",
    "{% for i in range(9999) %}{{ 'x' * 99999 }}{% endfor %}",
    "{{ [1,2] | tojson(indent=10**9) }}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ "
    "ns.s }}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ "
    "ns.s | length }}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s "
    "}}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s | "
    "tojson }}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ "
    "ns.s }}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ "
    "ns.s | tojson }}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ "
    "ns.s == ns.s }}{{ ns.s | string | length }}",
    "{% for i in 'x' * 9999999 %}{{ i }}{% endfor %}",
    "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a * b %}{% endfor %}{% endfor %}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "{% set x = range(99999) | list %}{% for i in x %}{{ x | length }}{{ i in x }}{% endfor %}",
    "{% set x = 'a' * 99999 %}{% for i in range(9999) %}{{ 'b' in x }}{% endfor %}",
    "{% for i in range(9999) %}{{ strftime_now('%c' * 9999) }}{% endfor %}",
    "{% set x %}{% for i in range(99999) %}{{ 'y' * 9999 }}{% endfor %}{% endset %}{{ x }}",
    "{{ dict(a=1) | dictsort | list }}{{ ({'a': 1}.items() | list) * 10**9 }}",
    "{{ 'x' * -1 }}{{ 'x' * (2 ** 62) }}",
    "{{ range(0, 10**18, 1) | list }}",
    "{{ 'abc' | batch(10**9, 'x') | list }}",
    "{{ [1] | slice(10**9) | list }}",
};

std::string repeat(const std::string& part, int n) {
  std::string all;
  for (int i = 0; i < n; ++i) all += part;
  return all;
}

// Sources that are themselves long or deep.
std::vector<std::string> grown_bombs() {
  return {
      "{{ ([1] * 99999) | tojson(indent=64) }}" + repeat("{{ ([1] * 99999) | tojson(indent=64) }}", 30),
      "{{ ('x' * 9999999) | upper | lower | title | trim | reverse | length }}" +
          repeat("{{ ('x' * 9999999) | upper }}", 50),
      "{{ ('x ' * 999999) | wordcount }}" + repeat("{{ ('x ' * 999999).split() | length }}", 50),
      repeat("{% for i in range(99) %}", 20) + "x" + repeat("{% endfor %}", 20),
      "{{ " + repeat("(", 100'000) + "1" + repeat(")", 100'000) + " }}",
      "{{ " + repeat("[", 100'000) + repeat("]", 100'000) + " }}",
      "{{ " + repeat("not ", 100'000) + "1 }}",
      "{{ " + repeat("-", 65'000) + "1 }}",
      "{{ 1" + repeat(" + 1", 200'000) + " }}" + repeat("x", 1 << 20),
      repeat("{% if true %}", 50'000),
      repeat("{{ 1 }}", 400'000),
      "{{ x" + repeat(".x", 100'000) + " }}",
      "{{ x" + repeat("[0]", 100'000) + " }}",
      "{{ x" + repeat("|upper", 100'000) + " }}",
      "{{ 1 if " + repeat("1 if ", 50'000) + "1 }}",
      repeat("x", 5 << 20),
      "{{ '" + repeat("x", 2 << 20) + "' }}",
      "{% set x = [1,2,3] * 33333 %}{{ x | map('string') | list | sort | unique | list | batch(1) | list | "
      "length }}" +
          repeat("{{ x | sort | length }}", 99),
  };
}

// Of this process and of the children that it has waited for.
double processor_ms() {
  double spent = 0;
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage used{};
    getrusage(who, &used);
    spent += static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e3 +
             static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-3;
  }
  return spent;
}

// None where /proc is not mounted.
std::optional<ptrdiff_t> threads_of_this_process() {
  if (!std::filesystem::exists("/proc/self/task")) return std::nullopt;
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
}

TEST(ChatTemplate, BombsEndSoonAndSmall) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "byte_level");
  const auto hello = OrderedJson::parse(R"([{"role":"user","content":"hi"}])");
  std::vector<std::string> all = kWrittenBombs;
  for (std::string& source : grown_bombs()) all.push_back(std::move(source));
  EXPECT_GE(all.size(), 60U);
  const std::optional<ptrdiff_t> threads = threads_of_this_process();
  for (const std::string& source : all) {
    const double start = processor_ms();
    try {
      const std::string text = ChatTemplate::from_source(source, "bomb.jinja", tokenizer).render(hello, {});
      EXPECT_LT(text.size(), 8U << 20) << source.substr(0, 80);
    } catch (const Error& error) {
      EXPECT_FALSE(error.message.empty());
    }
    // Processor time: other work on the machine must not decide. 200 ms is the crate's own limit, the rest is
    // ours.
    EXPECT_LT(processor_ms() - start, 500) << source.substr(0, 80);
  }
  // What was given up is gone: no process and no thread is left behind.
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
  if (!threads) GTEST_SKIP() << "threads are not counted: /proc is not mounted";
  EXPECT_EQ(threads_of_this_process(), threads);
}

// Every special token of a tokenizer in every role: no control id beyond those that the template writes
// itself.
class Injection : public testing::TestWithParam<const char*> {};

TEST_P(Injection, NoMessageSpellsAControlToken) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + GetParam());
  const OrderedJson golden = ordered(kFixtures + "renderings.json");
  const Json vocabulary = read_json_file(kFixtures + GetParam() + "/tokenizer.json");
  std::vector<std::string> specials;
  std::set<uint32_t> special_ids;
  for (const Json& token : vocabulary["added_tokens"]) {
    if (!token["special"].get<bool>()) continue;
    specials.push_back(token["content"]);
    if (token["content"] != "<unk>") special_ids.insert(token["id"].get<uint32_t>());
  }
  const auto controls = [&](const std::vector<uint32_t>& ids) {
    std::vector<uint32_t> found;
    for (uint32_t id : ids)
      if (special_ids.contains(id)) found.push_back(id);
    return found;
  };
  for (const char* name : {"chatml", "llama2", "llama3", "zephyr", "phi3", "qwen", "capital"}) {
    const auto chat =
        ChatTemplate::from_source(golden["templates"][name].get<std::string>(), name, tokenizer);
    const auto talk = [&](const std::string& text) {
      OrderedJson messages = OrderedJson::array();
      for (const char* role : {"system", "user", "assistant", "user"})
        messages.push_back({{"role", role}, {"content", text}});
      return controls(chat.encode(messages, {}));
    };
    const auto harmless = talk("word");
    for (const std::string& token : specials) {
      EXPECT_EQ(talk(token), harmless) << name << token;
      EXPECT_EQ(talk("  " + token + " "), harmless) << name << token;
      EXPECT_EQ(talk("a" + token + token + "b"), harmless) << name << token;
      EXPECT_EQ(talk(token.substr(0, token.size() / 2)), harmless) << name << token;
      EXPECT_EQ(talk(token.substr(token.size() / 2)), harmless) << name << token;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Injection, testing::Values("byte_level", "metaspace", "prepend"));

TEST(Injection, JoinedPiecesAreNoControlToken) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "byte_level");
  const auto chat =
      ChatTemplate::from_source("{% for m in messages %}{{ m.content }}{% endfor %}", "join", tokenizer);
  const auto halves =
      OrderedJson::parse(R"([{"role":"user","content":"<|im_"},{"role":"user","content":"start|>"}])");
  const uint32_t start = *tokenizer.id_of("<|im_start|>");
  std::string text;
  const auto ids = chat.encode(halves, {}, &text);
  EXPECT_EQ(text, "<|im_start|>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), start), 0);
}

TEST(Injection, HarmlessNeighboursKeepTheirIds) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "metaspace");
  const auto chat =
      ChatTemplate::from_source("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "t", tokenizer);
  const auto hello = OrderedJson::parse(R"([{"role":"user","content":"The fox </s> runs"}])");
  const auto ids = chat.encode(hello, {});
  const auto plain = tokenizer.encode("<s>The fox ", {.parse_special = true}).ids;
  EXPECT_TRUE(std::equal(plain.begin(), plain.end() - 1, ids.begin()));
  EXPECT_EQ(ids.back(), *tokenizer.id_of("</s>"));
}

}  // namespace
}  // namespace rhapsode::text
