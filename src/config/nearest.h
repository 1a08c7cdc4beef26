// The known word that an unknown one was probably meant to be.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace rhapsode::config {

// By edits (insert, delete, replace, swap of neighbours; case and - against _ are free). Empty where nothing
// is near enough to be of help; of equals the first.
std::string nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace rhapsode::config
