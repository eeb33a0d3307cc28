// Page maps as they are after another run of the system.

import EdgeTesting
import Glibc
import WALShip

enum PageMapFiles {
  /// Lets a page map look as if the system had been started anew since it was written.
  static func forgetBoot(_ path: String) throws {
    var bytes = try Files.read(path)
    bytes.withUnsafeMutableBytes { bytes in
      for offset in PageMapLayout.baseOffsets {
        let slot = UnsafeMutableRawBufferPointer(
          rebasing: bytes[offset..<offset + PageMapBase.byteCount])
        guard var base = PageMapBase(decoding: UnsafeRawBufferPointer(slot)) else { continue }
        base.bootID = (0..<16).map { _ in 7 }
        base.encode(into: slot)
      }
    }
    let descriptor = open(path, O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw TestFailure("\(path) cannot be opened") }
    defer { close(descriptor) }
    guard pwrite(descriptor, bytes, bytes.count, 0) == bytes.count else {
      throw TestFailure("\(path) cannot be written")
    }
  }
}
