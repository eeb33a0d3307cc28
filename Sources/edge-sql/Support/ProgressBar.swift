// How far something large is: a bar that is drawn over itself on a terminal, elsewhere now and then
// a line.

/// The progress of one copy, in bytes.
struct ProgressBar {
  /// What is done, for people: "copying".
  let what: String
  private let isDrawn: Bool
  private let log: (String) -> Void
  private let beganNanoseconds: UInt64
  /// What was done when the bar began: it says nothing about the speed.
  private var firstBytes: Int?
  private var shownNanoseconds: UInt64
  private var isVisible = false

  private static let drawNanoseconds: UInt64 = 100_000_000
  private static let logNanoseconds: UInt64 = 10_000_000_000
  private static let barColumnsMax = 30

  /// - Parameter log: takes the lines that are written where nothing can be drawn.
  init(_ what: String, log: @escaping (String) -> Void) {
    self.what = what
    self.log = log
    isDrawn = Console.error.hasColour
    beganNanoseconds = MonotonicClock.nowNanoseconds
    shownNanoseconds = beganNanoseconds
  }

  /// Shows where the copy is, unless that was done a moment ago.
  mutating func show(_ doneBytes: Int, of totalBytes: Int) {
    let first = firstBytes ?? doneBytes
    firstBytes = first
    let now = MonotonicClock.nowNanoseconds
    guard now - shownNanoseconds >= (isDrawn ? Self.drawNanoseconds : Self.logNanoseconds) else {
      return
    }
    shownNanoseconds = now
    let figures = Figures(
      doneBytes: doneBytes, totalBytes: totalBytes, newBytes: doneBytes - first,
      nanoseconds: now - beganNanoseconds)
    guard isDrawn else { return log("\(what): \(figures.text)") }
    isVisible = true
    let columns = Console.error.size?.columns ?? 80
    Console.error.write("\r" + Self.line(what, figures, columns: columns) + Self.clearToEnd)
  }

  /// Takes the bar off the screen.
  mutating func end() {
    guard isVisible else { return }
    isVisible = false
    Console.error.write(Self.clearLine)
  }

  private static let clearToEnd = "\u{1b}[K"
  /// Makes room for a line of something else; the bar comes again below it.
  static let clearLine = "\r" + clearToEnd

  /// One line that fits into `columns`: without the bar where that is too narrow.
  static func line(_ what: String, _ figures: Figures, columns: Int) -> String {
    let text = figures.text
    // One column stays free: the last one makes some terminals go to the next line.
    let room = min(barColumnsMax, columns - what.count - text.count - 6)
    guard room >= 8 else { return String("\(what) \(text)".prefix(max(0, columns - 1))) }
    let filled = Int(figures.fraction * Double(room))
    let bar = String(repeating: "#", count: filled) + String(repeating: "-", count: room - filled)
    return "\(what) [\(bar)] \(text)"
  }

  /// What is known of a copy at one moment.
  struct Figures: Equatable {
    var doneBytes: Int
    var totalBytes: Int
    /// What came in the last `nanoseconds`: the measure of the speed.
    var newBytes: Int
    var nanoseconds: UInt64

    /// From 0 to 1: more than was expected is as good as all.
    var fraction: Double {
      totalBytes > 0 ? min(1, max(0, Double(doneBytes) / Double(totalBytes))) : 0
    }

    /// `43 %, 430.0 MiB of 1.0 GiB, 85.2 MiB/s, 7 s left`
    var text: String {
      let percent = Int(fraction * 100)
      var text = "\(percent) %, \(SizeText.text(doneBytes)) of \(SizeText.text(totalBytes))"
      guard newBytes > 0, nanoseconds > 0 else { return text }
      let bytesPerSecond = Double(newBytes) / Double(nanoseconds) * 1e9
      text += ", \(SizeText.text(Int(bytesPerSecond)))/s"
      let seconds = Double(max(0, totalBytes - doneBytes)) / bytesPerSecond
      guard seconds >= 1, seconds < 1e6 else { return text }
      return text + ", \(DurationText.text(milliseconds: Int(seconds) * 1000)) left"
    }
  }
}
