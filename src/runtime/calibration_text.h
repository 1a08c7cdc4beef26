// The text that `quantize --fit` measures on where none is given: prose, questions, lists, figures and code,
// so that no one kind of text decides alone.
#pragma once

#include <string_view>

namespace rhapsode::runtime {

extern const std::string_view kCalibrationText;

}  // namespace rhapsode::runtime
