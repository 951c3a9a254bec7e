#include "tuning_file.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <system_error>

#if defined(_WIN32)
#include <process.h>
#else
#include <unistd.h>
#endif

namespace mixprec::cuda {
namespace {

long process_id() {
#if defined(_WIN32)
  return _getpid();
#else
  return getpid();
#endif
}

// Of the header, for the file's name.
std::string hash_of(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  return digits;
}

}  // namespace

std::string cache_directory() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && cache[0] == '/') return std::string(cache) + "/mixprec";
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] != '\0') return std::string(home) + "/.cache/mixprec";
  return {};
}

TuningFile::TuningFile(const std::string& directory, const TuningIdentity& identity)
    : directory_(directory),
      header_("mixprec gemm tuning 1\ndevice " + identity.device + "\ndriver " +
              std::to_string(identity.driver) + "\nversion " + identity.version + "\n") {
  if (directory.empty()) return;
  path_ = directory + "/gemm-" + hash_of(header_) + ".txt";
  read();
}

void TuningFile::read() {
  std::ifstream file(path_, std::ios::binary);
  std::stringstream content;
  if (!file || !(content << file.rdbuf())) return;
  const std::string text = content.str();
  // One that was cut off has no last line break, and its last line is not to be trusted.
  if (text.compare(0, header_.size(), header_) != 0 || text.back() != '\n') return;
  std::istringstream lines(text.substr(header_.size()));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string key, rest;
    int32_t family = 0;
    GemmConfig config;
    int32_t turned = 0;
    const bool complete =
        static_cast<bool>(fields >> key >> family >> config.variant >> config.splits >> turned);
    if (!complete || (fields >> rest) || family < 0 || family >= kGemmFamilyCount ||
        config.variant < 0 || config.splits < 1 || turned < 0 || turned > 1) {
      choices_.clear();
      return;
    }
    config.family = static_cast<GemmFamily>(family);
    config.swapped = turned == 1;
    choices_[key] = config;
  }
}

std::optional<GemmConfig> TuningFile::find(const GemmKey& key) const {
  const auto found = choices_.find(key.text());
  if (found == choices_.end()) return std::nullopt;
  return found->second;
}

void TuningFile::put(const GemmKey& key, const GemmConfig& config) {
  choices_[key.text()] = config;
  if (!path_.empty()) write();
}

void TuningFile::write() const {
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
  if (error) return;
  // Under another name first: whoever reads meanwhile sees the old file or the new one.
  const std::string temporary = path_ + "." + std::to_string(process_id());
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file << header_;
    const std::map<std::string, GemmConfig> sorted(choices_.begin(), choices_.end());
    for (const auto& [key, config] : sorted) {
      file << key << ' ' << static_cast<int32_t>(config.family) << ' ' << config.variant << ' '
           << config.splits << ' ' << (config.swapped ? 1 : 0) << '\n';
    }
    file.close();
    if (!file) {
      std::filesystem::remove(temporary, error);
      return;
    }
  }
  std::filesystem::rename(temporary, path_, error);
  if (error) std::filesystem::remove(temporary, error);
}

}  // namespace mixprec::cuda
