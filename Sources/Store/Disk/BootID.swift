// Which run of the operating system this is: what was written through a mapping is certain only
// within one.
// Source: https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html

extension PageMapFile {
  /// Which run of the operating system this is.
  public static func bootID(of path: String) -> [UInt8] {
    Machine.substitute?.bootID(of: path) ?? systemBootID
  }

  private static let systemBootID: [UInt8] = {
    guard let text = try? Disk.readPrefix(of: "/proc/sys/kernel/random/boot_id", count: 36) else {
      return []
    }
    let digits = String(decoding: text, as: UTF8.self).filter { $0 != "-" }
    return stride(from: 0, to: digits.count, by: 2).compactMap { offset in
      UInt8(digits.dropFirst(offset).prefix(2), radix: 16)
    }
  }()
}
