// Malformed safetensors files and indexes, generated: each field with each bad value, in the first, middle
// and last tensor; truncations at every length; and the odd but valid files that must be accepted.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "support/scratch.h"

namespace rhapsode {
namespace {

using testing::error_of;
using testing::Scratch;

struct Case {
  std::string name;
  std::string bytes;
};

std::string with_prefix(uint64_t length, std::string_view rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes.append(rest);
}
std::string file_of(const std::string& header, uint64_t data_bytes) {
  return with_prefix(header.size(), header) + std::string(data_bytes, 'd');
}

// Three tensors of 24 bytes; the fields of one of them can be replaced, or left out where the text is empty.
struct Fields {
  std::string dtype = "\"F32\"", shape = "[2,3]", offsets;
};
std::string three_tensors(size_t changed, const std::function<void(Fields&)>& change) {
  std::string header = "{";
  for (size_t i = 0; i < 3; ++i) {
    Fields f;
    f.offsets = "[" + std::to_string(24 * i) + "," + std::to_string(24 * i + 24) + "]";
    if (i == changed) change(f);
    header += i == 0 ? "" : ",";
    header += "\"t" + std::to_string(i) + "\":{";
    std::string entry;
    for (const auto& [key, value] :
         {std::pair{"dtype", f.dtype}, std::pair{"shape", f.shape}, std::pair{"data_offsets", f.offsets}})
      if (!value.empty()) entry += std::string(entry.empty() ? "" : ",") + "\"" + key + "\":" + value;
    header += entry + "}";
  }
  return header + "}";
}

const std::vector<std::string> kBadNumbers{"-1",   "1.5",  "1e400", "\"2\"", "null",
                                           "true", "[2]",  "{}",    "NaN",   "18446744073709551616",
                                           "1e2",  "-0.5", ""};

// Each field of each tensor, with each bad value.
std::vector<Case> bad_fields() {
  std::vector<Case> cases;
  for (size_t tensor = 0; tensor < 3; ++tensor) {
    const auto add = [&](const std::string& what, const std::function<void(Fields&)>& change) {
      cases.push_back(
          {"tensor " + std::to_string(tensor) + ": " + what, file_of(three_tensors(tensor, change), 72)});
    };
    const uint64_t begin = 24 * tensor;
    const auto range = [](uint64_t a, uint64_t b) {
      return "[" + std::to_string(a) + "," + std::to_string(b) + "]";
    };
    for (const char* dtype : {"", "\"f32\"", "\"F33\"", "\"\"", "32", "null", "[\"F32\"]", "{}", "\"F32 \"",
                              "\"F64\"", "\"F16\"", "\"BF16\""})
      add(std::string("dtype ") + dtype, [&](Fields& f) { f.dtype = dtype; });
    for (const char* shape :
         {"", "null", "6", "\"[6]\"", "{}", "[[2,3]]", "[2,3,1,0]", "[7]", "[5]", "[0]", "[]", "[2,4]",
          "[3,3]", "[4611686018427387904,4]", "[4294967296,4294967296]", "[9223372036854775808,2]",
          "[18446744073709551615]", "[4611686018427387905]", "[3,6148914691236517206]"})
      add(std::string("shape ") + shape, [&](Fields& f) { f.shape = shape; });
    std::string rank65 = "[6";
    for (int i = 0; i < 64; ++i) rank65 += ",1";
    add("rank 65", [&](Fields& f) { f.shape = rank65 + "]"; });
    for (const std::string& number : kBadNumbers) {
      add("shape holds " + number, [&](Fields& f) { f.shape = "[2," + number + "]"; });
      add("begin is " + number,
          [&](Fields& f) { f.offsets = "[" + number + "," + std::to_string(begin + 24) + "]"; });
      add("end is " + number,
          [&](Fields& f) { f.offsets = "[" + std::to_string(begin) + "," + number + "]"; });
    }
    for (const std::string& offsets :
         {std::string(""), std::string("[]"), range(begin + 24, begin), "[" + std::to_string(begin) + "]",
          "[" + std::to_string(begin) + "," + std::to_string(begin + 24) + ",0]", range(begin, begin + 23),
          range(begin, begin + 25), range(begin + 1, begin + 25), range(begin + 1, begin + 24),
          range(begin, UINT64_MAX), range(UINT64_MAX - 23, UINT64_MAX),
          range(uint64_t{1} << 63, (uint64_t{1} << 63) + 24), range(begin, begin + 48), std::string("null"),
          std::string("\"0,24\""), range(begin + 1000, begin + 1024)})
      add("data_offsets " + offsets, [&](Fields& f) { f.offsets = offsets; });
    const uint64_t other = tensor == 0 ? 24 : 0;
    add("bytes of another tensor", [&](Fields& f) { f.offsets = range(other, other + 24); });
    if (tensor > 0) add("overlap by one", [&](Fields& f) { f.offsets = range(begin - 1, begin + 23); });
  }
  return cases;
}

std::vector<Case> bad_files() {
  const std::string good = three_tensors(3, {});
  const std::string one = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  const uint64_t size = 8 + good.size() + 72;
  std::vector<Case> cases;
  const auto header = [&](const std::string& name, const std::string& text, uint64_t data = 4) {
    cases.push_back({name, file_of(text, data)});
  };
  for (const uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{7}, size - 7, size - 8 + 1, size + 1,
                                uint64_t{100'000'000}, uint64_t{100'000'001}, uint64_t{1} << 31,
                                uint64_t{1} << 32, uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7})
    cases.push_back(
        {"length prefix " + std::to_string(length), with_prefix(length, good + std::string(72, 'd'))});
  const std::string whole = file_of(good, 72);
  for (size_t n = 0; n < whole.size(); n += n < 16 ? 1 : 9)
    cases.push_back({"cut at " + std::to_string(n), whole.substr(0, n)});
  for (const size_t extra : {1, 8, 4096})
    cases.push_back({"trailing " + std::to_string(extra), whole + std::string(extra, '\0')});
  header("not an object", "[1,2]");
  header("leading space", " {" + one + "}");
  header("byte order mark", "\xef\xbb\xbf{" + one + "}");
  header("NUL inside", std::string("{\0", 2) + one + "}");
  header("NUL padding", "{" + one + "}" + std::string(8, '\0'));
  header("second object", "{" + one + "}{}");
  header("trailing comma", "{" + one + ",}");
  header("trailing comma in an entry", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],}})");
  header("comment", "{/*x*/" + one + "}");
  header("unclosed", "{" + one);
  header("invalid UTF-8 in a name", "{\"\xff\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
  header("overlong UTF-8", "{\"\xc0\xaf\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
  header("lone surrogate", R"({"\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})");
  header("deep arrays", "{\"a\":" + std::string(100'000, '['), 0);
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += "{\"a\":";
  header("deep objects", deep, 0);
  header("duplicate tensor", "{" + one + "," + one + "}");
  header("duplicate tensor, escaped",
         "{" + one + R"(,"\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})");
  header("duplicate tensor of other bytes",
         "{" + one + R"(,"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8);
  header("duplicate field", R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})");
  header("duplicate field, escaped",
         R"({"a":{"dtype":"F32","\u0064type":"F32","shape":[1],"data_offsets":[0,4]}})");
  header("duplicate metadata", R"({"__metadata__":{},"__metadata__":{},)" + one + "}");
  header("duplicate metadata key", R"({"__metadata__":{"a":"1","a":"1"},)" + one + "}");
  for (const char* metadata :
       {"1", "null", "[]", "\"x\"", "{\"a\":1}", "{\"a\":null}", "{\"a\":{}}", "{\"a\":[\"x\"]}", "true"})
    header(std::string("metadata ") + metadata,
           std::string("{\"__metadata__\":") + metadata + "," + one + "}");
  for (const char* entry : {"1", "null", "[]", "\"x\"", "{}", "true",
                            R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"extra":1})"})
    header(std::string("entry ") + entry, std::string("{\"a\":") + entry + "}");
  header("data without tensors", "{}");
  header("sub-byte size", R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2);
  header("foreign type, wrong size", R"({"a":{"dtype":"C64","shape":[1],"data_offsets":[0,4]}})");
  header("empty tensor in the middle of another",
         "{" + one + R"(,"e":{"dtype":"F32","shape":[0],"data_offsets":[2,2]}})");
  header("empty tensor behind the end",
         "{" + one + R"(,"e":{"dtype":"F32","shape":[0],"data_offsets":[5,5]}})");
  header("only an empty tensor, data", R"({"e":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})");
  return cases;
}

void expect_refused(const Case& c, ErrorKind kind) {
  const auto error = error_of([&] {
    parse_safetensors_header(std::as_bytes(std::span(c.bytes)), c.bytes.size(), "some.safetensors");
  });
  ASSERT_TRUE(error) << c.name;
  EXPECT_EQ(error->kind, kind) << c.name;
  EXPECT_FALSE(error->code.empty()) << c.name;
  EXPECT_EQ(error->file, "some.safetensors") << c.name;
  EXPECT_FALSE(error->found.empty()) << c.name << "\n" << error->to_text();
  EXPECT_FALSE(error->expected.empty()) << c.name << "\n" << error->to_text();
  EXPECT_TRUE(is_utf8(error->to_text())) << c.name;
  EXPECT_LT(error->to_text().size(), 4000u) << c.name;
}

TEST(SafetensorsMalformed, EveryBadFieldIsRefused) {
  const std::vector<Case> cases = bad_fields();
  RecordProperty("cases", static_cast<int>(cases.size()));
  EXPECT_GE(cases.size(), 200u);
  for (const Case& c : cases) expect_refused(c, ErrorKind::integrity);
}

TEST(SafetensorsMalformed, EveryBadFileIsRefused) {
  const std::vector<Case> cases = bad_files();
  RecordProperty("cases", static_cast<int>(cases.size()));
  EXPECT_GE(cases.size(), 80u);
  for (const Case& c : cases) expect_refused(c, ErrorKind::integrity);
}

TEST(SafetensorsMalformed, ErrorsNameByteAndTensor) {
  const std::string header = three_tensors(1, [](Fields& f) { f.offsets = "[25,49]"; });
  const std::string bytes = file_of(header, 72);
  const auto error =
      error_of([&] { parse_safetensors_header(std::as_bytes(std::span(bytes)), bytes.size(), "f"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, "hole-in-data");
  EXPECT_EQ(error->path, "t1");
  EXPECT_NE(error->found.find("byte " + std::to_string(8 + header.size() + 25)), std::string::npos)
      << error->found;
  const std::string bad = file_of(three_tensors(2, [](Fields& f) { f.shape = "[2,-3]"; }), 72);
  const auto number =
      error_of([&] { parse_safetensors_header(std::as_bytes(std::span(bad)), bad.size(), "f"); });
  ASSERT_TRUE(number);
  EXPECT_EQ(number->path, "/t2/shape/1");
  EXPECT_NE(number->found.find("-3 at byte "), std::string::npos) << number->found;
}

// Not what most files look like, but valid.
std::vector<Case> oddities() {
  std::vector<Case> cases;
  const auto header = [&](const std::string& name, const std::string& text, uint64_t data) {
    cases.push_back({name, file_of(text, data)});
  };
  const std::string one = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  header("no tensors", "{}", 0);
  header("no tensors, metadata", R"({"__metadata__":{"format":"pt"}})", 0);
  header("a scalar", R"({"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}})", 8);
  header("an empty tensor", R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", 0);
  header(
      "an empty tensor of huge dims",
      R"({"a":{"dtype":"F32","shape":[18446744073709551615,0,18446744073709551615],"data_offsets":[0,0]}})",
      0);
  header(
      "empty tensors at a border",
      "{" + one +
          R"(,"e":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"f":{"dtype":"U8","shape":[3,0],"data_offsets":[4,4]}})",
      4);
  header("metadata last", "{" + one + R"(,"__metadata__":{"a":"b"}})", 4);
  header("metadata with any text", R"({"__metadata__":{"":"","é😀":"\n\u0000\"","k":"{}"},)" + one + "}", 4);
  header(
      "unordered",
      R"({"z":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},"y":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
      3);
  header(
      "unaligned",
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}})",
      9);
  header("fields in another order", R"({"a":{"data_offsets":[0,4],"shape":[1],"dtype":"F32"}})", 4);
  header("spaces everywhere",
         "{ \"a\" : { \"dtype\" : \"F32\" ,\n\t\"shape\" : [ 1 ] , \"data_offsets\" : [ 0 , 4 ] } }", 4);
  header("escaped field names", R"({"a":{"\u0064type":"F32","sh\u0061pe":[1],"data_offsets":[0,4]}})", 4);
  for (const size_t pad : {1, 7, 8, 4096, 1'000'000})
    header("padded by " + std::to_string(pad), "{" + one + "}" + std::string(pad, ' '), 4);
  for (const char* name : {"", " ", "é", "日本", "😀", "a\\u0000b", "a/b", "../x", "\\\"", "__metadata__x",
                           "dtype", "a\\nb", "\\ud83d\\ude00"})
    header(std::string("named ") + name,
           std::string("{\"") + name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
  header("a name of 1 MiB",
         "{\"" + std::string(1 << 20, 'n') + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
  std::string rank64 = "[1";
  for (int i = 0; i < 63; ++i) rank64 += ",1";
  header("rank 64", R"({"a":{"dtype":"F32","shape":)" + rank64 + R"(],"data_offsets":[0,4]}})", 4);
  for (const auto& [dtype, shape, bytes] : std::vector<std::tuple<std::string, std::string, uint64_t>>{
           {"F32", "[2]", 8},         {"F16", "[2]", 4},     {"BF16", "[2]", 4},    {"F64", "[2]", 16},
           {"I64", "[2]", 16},        {"I32", "[2]", 8},     {"I16", "[2]", 4},     {"I8", "[2]", 2},
           {"U8", "[2]", 2},          {"BOOL", "[2]", 2},    {"F8_E4M3", "[2]", 2}, {"F8_E5M2", "[2]", 2},
           {"U16", "[2]", 4},         {"U32", "[2]", 8},     {"U64", "[2]", 16},    {"F4", "[2,3]", 3},
           {"F6_E2M3", "[4]", 3},     {"F6_E3M2", "[8]", 6}, {"F8_E8M0", "[2]", 2}, {"F8_E4M3FNUZ", "[2]", 2},
           {"F8_E5M2FNUZ", "[2]", 2}, {"C64", "[2]", 16}})
    header("type " + dtype,
           R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":[0,)" +
               std::to_string(bytes) + "]}}",
           bytes);
  return cases;
}

TEST(SafetensorsOddities, AreAccepted) {
  const std::vector<Case> cases = oddities();
  RecordProperty("cases", static_cast<int>(cases.size()));
  EXPECT_GE(cases.size(), 40u);
  for (const Case& c : cases) {
    const auto error =
        error_of([&] { parse_safetensors_header(std::as_bytes(std::span(c.bytes)), c.bytes.size(), "f"); });
    EXPECT_FALSE(error) << c.name << "\n" << (error ? error->to_text() : "");
  }
}

TEST(SafetensorsOddities, TheLongestHeaderAndManyTensorsAreAccepted) {
  std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  header.append(kMaxHeaderBytes - header.size(), ' ');
  const std::string longest = file_of(header, 1);
  EXPECT_EQ(parse_safetensors_header(std::as_bytes(std::span(longest)), longest.size(), "f").size(), 1u);
  std::string many = "{";
  for (int i = 0; i < 100'000; ++i)
    many += (i == 0 ? "\"t" : ",\"t") + std::to_string(i) +
            R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" + std::to_string(i) + "," +
            std::to_string(i + 1) + "]}";
  const std::string bytes = file_of(many + "}", 100'000);
  EXPECT_EQ(parse_safetensors_header(std::as_bytes(std::span(bytes)), bytes.size(), "f").size(), 100'000u);
}

// A file larger than any memory, sparse on the disk: 64-bit offsets all the way, no memory for its tensors.
TEST(SafetensorsOddities, AHugeSparseFileIsOpened) {
  const Scratch scratch;
  const uint64_t elements = uint64_t{3} << 31;
  const std::string header = R"({"a":{"dtype":"F32","shape":[)" + std::to_string(elements) +
                             R"(],"data_offsets":[0,)" + std::to_string(4 * elements) + "]}}";
  scratch.put("model.safetensors", file_of(header, 0));
  std::error_code code;
  std::filesystem::resize_file(scratch.path() / "model.safetensors", 8 + header.size() + 4 * elements, code);
  if (code) GTEST_SKIP() << "the file system holds no file of this size";
  const Checkpoint checkpoint = Checkpoint::open(scratch.path().string());
  float last = 1;
  checkpoint.read(*checkpoint.find("a"), 4 * elements - 4, std::as_writable_bytes(std::span(&last, 1)));
  EXPECT_EQ(last, 0.0f);
}

}  // namespace
}  // namespace rhapsode
