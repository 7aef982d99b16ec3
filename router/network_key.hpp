// macaddr and inet keys in the server's stored form: six bytes; family (2 or 3), prefix length, 4 or 16 address bytes.
#pragma once

#include <string>
#include <string_view>

namespace tessera::router::network {

// "08:00:2b:01:02:03" and with hyphens; other notations are left to the server.
bool parse_macaddr(std::string_view text, std::string& bytes);
std::string macaddr_text(std::string_view bytes);
// Whole addresses with or without "/bits".
bool parse_inet(std::string_view text, std::string& bytes);
bool inet_from_binary(std::string_view wire, std::string& bytes);
std::string inet_text(std::string_view bytes);
int compare_inet(std::string_view a, std::string_view b);

}  // namespace tessera::router::network
