// Writes JSON for what crosses the boundary as text. Strings are names of ours and of devices.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace mixprec {

class JsonObject {
 public:
  JsonObject& text(std::string_view name, std::string_view value) {
    key(name) += '"';
    for (const char c : value) {
      if (c == '"' || c == '\\') out_ += '\\';
      if (static_cast<unsigned char>(c) >= 0x20) out_ += c;
    }
    out_ += '"';
    return *this;
  }
  JsonObject& number(std::string_view name, double value) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.9g", value);
    key(name) += std::isfinite(value) ? digits : "null";
    return *this;
  }
  JsonObject& flag(std::string_view name, bool value) {
    key(name) += value ? "true" : "false";
    return *this;
  }
  // Of JSON as it is.
  JsonObject& value(std::string_view name, std::string_view json) {
    key(name) += json;
    return *this;
  }
  std::string done() const { return out_ + '}'; }

 private:
  std::string& key(std::string_view name) {
    out_ += out_.size() > 1 ? ",\"" : "\"";
    out_ += name;
    return out_ += "\":";
  }
  std::string out_ = "{";
};

// The list with one more item.
inline void append_json(std::string& list, std::string_view item) {
  list += list.empty() ? "" : ",";
  list += item;
}

}  // namespace mixprec
