// Cores from the affinity mask and sysfs, quotas from control groups (both versions). Whatever
// cannot be read counts as no limit.
#include "cpu_count.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <sched.h>
#endif

namespace mixprec::cpu {
namespace {

#if defined(__linux__)

// Two hardware threads of one core share the units that kernels are limited by.
int allowed_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 0;
  std::set<std::pair<long, long>> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    long package = 0;
    long core = 0;
    std::ifstream(topology + "physical_package_id") >> package;
    if (std::ifstream(topology + "core_id") >> core) {
      cores.emplace(package, core);
    } else {
      cores.emplace(-1, cpu);
    }
  }
  return static_cast<int>(cores.size());
}

// The smaller quota in whole cores, of `folder` and every one above it up to `root`; 0: no limit.
int least_quota(const std::string& root, std::string folder) {
  int least = 0;
  const auto take = [&](double quota, double period) {
    if (!(quota > 0.0) || !(period > 0.0)) return;
    const int cores = std::max(1, static_cast<int>(std::min(quota / period, 65536.0)));
    least = least == 0 ? cores : std::min(least, cores);
  };
  while (true) {
    const std::string path = root + folder;
    double quota = 0.0;
    double period = 0.0;
    // Version 2 says "max 100000" where there is no limit, which fails to read as a number.
    if (std::ifstream(path + "/cpu.max") >> quota >> period) take(quota, period);
    if (std::ifstream(path + "/cpu.cfs_quota_us") >> quota &&
        std::ifstream(path + "/cpu.cfs_period_us") >> period) {
      take(quota, period);
    }
    if (folder.empty()) return least;
    folder.resize(folder.find_last_of('/'));
  }
}

int quota_cores() {
  int least = 0;
  std::ifstream groups("/proc/self/cgroup");
  // Lines "id:controllers:/path"; version 2 has no controllers.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers = line.substr(first, second - first);
    controllers.front() = ',';
    controllers.push_back(',');
    std::string folder = line.substr(second + 1);
    if (folder == "/" || folder.empty() || folder.front() != '/') folder.clear();
    int cores = 0;
    if (controllers == ",,") {
      cores = least_quota("/sys/fs/cgroup", folder);
    } else if (controllers.find(",cpu,") != std::string::npos) {
      cores = least_quota("/sys/fs/cgroup/cpu", folder);
    }
    if (cores > 0) least = least == 0 ? cores : std::min(least, cores);
  }
  return least;
}

#else

int allowed_cores() { return 0; }
int quota_cores() { return 0; }

#endif

}  // namespace

int usable_cores() {
  int cores = allowed_cores();
  if (cores == 0) cores = static_cast<int>(std::thread::hardware_concurrency());
  if (const int quota = quota_cores(); quota > 0) cores = std::min(cores, quota);
  return std::max(cores, 1);
}

}  // namespace mixprec::cpu
