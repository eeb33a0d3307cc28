// The machine: clocks, limits and kernel settings that edge-sql depends on.

import Glibc

enum SystemFindings {
  static func all() -> [Finding] {
    [realTime(), clockSource(), openFiles(), listenQueue(), inotify(), dirtyPages()]
  }

  // MARK: Clocks

  /// The year must be plausible, and both clocks must run at the same speed.
  private static func realTime() -> Finding {
    var now = time(nil)
    var parts = tm()
    gmtime_r(&now, &parts)
    let year = Int(parts.tm_year) + 1900
    guard (2024...2100).contains(year) else {
      return .fail(
        "clock", "the year is \(year)", do: "Set the clock; run an NTP client such as chrony.")
    }
    let start = (MonotonicClock.read(CLOCK_REALTIME), MonotonicClock.read(CLOCK_MONOTONIC))
    MonotonicClock.sleep(milliseconds: 50)
    let end = (MonotonicClock.read(CLOCK_REALTIME), MonotonicClock.read(CLOCK_MONOTONIC))
    let real = Int64(bitPattern: end.0 &- start.0)
    let monotonic = Int64(bitPattern: end.1 &- start.1)
    guard monotonic > 0 else {
      return .fail("clock", "the monotonic clock stands still", do: "Look into the kernel log.")
    }
    let drift = real - monotonic
    guard abs(drift) < 2_000_000 else {
      return .warn(
        "clock", "the wall clock moved by \(drift / 1000) µs within 50 ms",
        do: "Something steps it: run one NTP client, and let it slew.")
    }
    return .ok("clock", "\(year), runs evenly (\(drift / 1000) µs off in 50 ms)")
  }

  private static func clockSource() -> Finding {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    guard let source = line(of: path) else {
      return .ok("clock source", "the kernel does not tell")
    }
    switch source {
    case "hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit":
      return .warn(
        "clock source", "\(source): reading the time is a slow system call",
        do: "Look into the kernel log why tsc was rejected.")
    default: return .ok("clock source", source)
    }
  }

  // MARK: Limits

  private static func openFiles() -> Finding {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
      return .warn("open files", errorText(errno), do: "Check ulimit -n.")
    }
    let soft = limit.rlim_cur == .max ? "unlimited" : grouped(Int(clamping: limit.rlim_cur))
    if limit.rlim_cur < 256 {
      return .fail("open files", soft, do: "ulimit -n 65536, or LimitNOFILE=65536 in the unit.")
    }
    if limit.rlim_cur < 4096 {
      return .warn(
        "open files", "\(soft), one is needed for each connection",
        do: "ulimit -n 65536, or LimitNOFILE=65536 in the unit.")
    }
    return .ok("open files", soft)
  }

  private static func listenQueue() -> Finding {
    guard let size = number(of: "/proc/sys/net/core/somaxconn") else {
      return .ok("listen queue", "net.core.somaxconn cannot be read here")
    }
    guard size < 1024 else { return .ok("listen queue", "net.core.somaxconn = \(size)") }
    return .warn(
      "listen queue", "net.core.somaxconn = \(size): bursts of new connections are dropped",
      do: "sysctl -w net.core.somaxconn=4096")
  }

  private static func inotify() -> Finding {
    let directory = "/proc/sys/fs/inotify/"
    guard let watches = number(of: directory + "max_user_watches"),
      let instances = number(of: directory + "max_user_instances")
    else { return .ok("inotify", "its limits cannot be read here") }
    let text = "max_user_watches = \(watches), max_user_instances = \(instances)"
    if watches < 1024 {
      return .warn("inotify", text, do: "sysctl -w fs.inotify.max_user_watches=65536")
    }
    if instances < 32 {
      return .warn("inotify", text, do: "sysctl -w fs.inotify.max_user_instances=256")
    }
    return .ok("inotify", text)
  }

  // MARK: Memory

  /// Many dirty pages make one sync wait for all that others have written.
  private static func dirtyPages() -> Finding {
    let directory = "/proc/sys/vm/"
    guard let ratio = number(of: directory + "dirty_ratio"),
      let background = number(of: directory + "dirty_background_ratio")
    else { return .ok("dirty pages", "vm.dirty_ratio cannot be read here") }
    if let bytes = number(of: directory + "dirty_bytes"), bytes > 0 {
      return .ok("dirty pages", "vm.dirty_bytes = \(SizeText.text(bytes))")
    }
    let text = "vm.dirty_ratio = \(ratio), vm.dirty_background_ratio = \(background)"
    guard ratio > 40 || background > 20 else { return .ok("dirty pages", text) }
    return .warn(
      "dirty pages", "\(text): a sync may have to wait for gigabytes of other writes",
      do: "sysctl -w vm.dirty_ratio=20 vm.dirty_background_ratio=10")
  }

  private static func line(of path: String) -> String? {
    guard let bytes = try? TextFile.read(path, bytesMax: 4096) else { return nil }
    let line = String(decoding: bytes.prefix { $0 > 32 }, as: UTF8.self)
    return line.isEmpty ? nil : line
  }

  private static func number(of path: String) -> Int? { line(of: path).flatMap { Int($0) } }
}
