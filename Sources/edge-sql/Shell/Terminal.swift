// The terminal in raw mode: every key comes at once, and nothing is echoed.

import Glibc

/// Standard input and output of the shell.
final class Terminal {
  private var saved = termios()
  private var isRaw = false

  /// Switches to raw mode; output keeps its line ends.
  ///
  /// - Returns: false when standard input is not a terminal.
  func enterRawMode() -> Bool {
    guard !isRaw else { return true }
    guard tcgetattr(STDIN_FILENO, &saved) == 0 else { return false }
    var raw = saved
    raw.c_iflag &= ~tcflag_t(BRKINT | ICRNL | INPCK | ISTRIP | IXON)
    raw.c_lflag &= ~tcflag_t(ECHO | ICANON | IEXTEN | ISIG)
    raw.c_cflag |= tcflag_t(CS8)
    withUnsafeMutableBytes(of: &raw.c_cc) { controls in
      controls[Int(VMIN)] = 1
      controls[Int(VTIME)] = 0
    }
    isRaw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0
    return isRaw
  }

  func leaveRawMode() {
    guard isRaw else { return }
    tcsetattr(STDIN_FILENO, TCSADRAIN, &saved)
    isRaw = false
  }

  deinit { leaveRawMode() }

  var columns: Int { max(20, Console.output.size?.columns ?? 80) }

  func write(_ text: String) { Console.output.write(text) }

  var keys: KeyReader {
    KeyReader(nextByte: { Self.readByte() }, hasMore: { Self.isReadable(milliseconds: 50) })
  }

  private static func readByte() -> UInt8? {
    var byte: UInt8 = 0
    while true {
      let count = read(STDIN_FILENO, &byte, 1)
      if count == 1 { return byte }
      if count < 0, errno == EINTR { continue }
      return nil
    }
  }

  private static func isReadable(milliseconds: Int32) -> Bool {
    var request = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
    return poll(&request, 1, milliseconds) > 0
  }
}
