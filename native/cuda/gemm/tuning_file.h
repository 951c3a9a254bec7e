// Choices of kernels that were measured, on disk: a text file for each device, driver and version
// of the library. What is not such a file, or of others, is as if it were not there.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>

#include "gemm_key.h"
#include "select.h"

namespace mixprec::cuda {

struct TuningIdentity {
  std::string device;
  int driver = 0;
  std::string version;  // of the library
};

// $XDG_CACHE_HOME/mixprec, or ~/.cache/mixprec; empty where neither is known.
std::string cache_directory();

class TuningFile {
 public:
  // Reads what there is. An empty directory keeps everything in memory.
  TuningFile(const std::string& directory, const TuningIdentity& identity);

  std::optional<GemmConfig> find(const GemmKey& key) const;
  // Remembers a choice and writes the file anew; that it cannot be written is no error.
  void put(const GemmKey& key, const GemmConfig& config);
  const std::string& path() const { return path_; }

 private:
  void read();
  void write() const;

  std::string directory_;
  std::string path_;
  std::string header_;
  std::unordered_map<std::string, GemmConfig> choices_;
};

}  // namespace mixprec::cuda
