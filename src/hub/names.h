// Names that come from configs and from the hub: repositories, revisions, files. What passes here can stand
// in a path or a URL and lead nowhere else.
#pragma once

#include <string>
#include <string_view>

namespace rhapsode::hub {

void check_repo_id(const std::string& id);         // "name" or "org/name"; config error otherwise
void check_revision(const std::string& revision);  // branch, tag or commit; config error otherwise
bool is_commit(std::string_view text);             // 40 lower-case hexadecimal digits
bool is_etag(std::string_view text);               // git sha1 or sha256, as blobs are named
// A file of a repository: relative, inside, no component that a path would read differently.
bool is_safe_file_name(std::string_view name);

std::string repo_folder(const std::string& id);  // models--org--name
// %XX for every byte that is no unreserved character; '/' stays where `keep_slashes`.
std::string percent_encoded(std::string_view text, bool keep_slashes);

}  // namespace rhapsode::hub
