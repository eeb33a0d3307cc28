// What a bench sees while it runs: one line on the terminal that is drawn over itself. It goes to
// standard error, is gone at the end, and is not there at all where nothing can be drawn.

/// The live line of one bench.
struct LiveView {
  private let name: String
  private let isDrawn: Bool
  private var shownNanoseconds: UInt64
  private var shownCount = 0
  /// The rates of the last moments, a second, oldest first.
  private var rates: [Double] = []
  private var isVisible = false

  private static let intervalNanoseconds: UInt64 = 250_000_000
  private static let ratesMax = 24
  private static let marks = Array("▁▂▃▄▅▆▇█")
  private static let clearToEnd = "\u{1b}[K"

  /// - Parameter isDrawn: nil to find out.
  init(_ name: String, isDrawn: Bool? = nil) {
    self.name = name
    self.isDrawn = isDrawn ?? Console.error.hasColour
    shownNanoseconds = MonotonicClock.nowNanoseconds
  }

  /// Shows where the bench is, unless that was done a moment ago.
  ///
  /// - Parameter done: the part of all that is over, from 0 to 1.
  mutating func show(_ times: Measurement, done: Double) {
    guard isDrawn else { return }
    let now = MonotonicClock.nowNanoseconds
    guard now - shownNanoseconds >= Self.intervalNanoseconds else { return }
    rates.append(Double(times.count - shownCount) / (Double(now - shownNanoseconds) / 1e9))
    if rates.count > Self.ratesMax { rates.removeFirst() }
    shownNanoseconds = now
    shownCount = times.count
    isVisible = true
    let columns = Console.error.size?.columns ?? 80
    Console.error.write("\r\(Self.line(name, times, rates, done, columns))\(Self.clearToEnd)")
  }

  /// Takes the line off the screen.
  mutating func end() {
    guard isVisible else { return }
    isVisible = false
    Console.error.write("\r\(Self.clearToEnd)")
  }

  /// One line that fits into `columns`.
  static func line(
    _ name: String, _ times: Measurement, _ rates: [Double], _ done: Double, _ columns: Int
  ) -> String {
    let rate = grouped(Int((rates.last ?? 0).rounded()))
    let text =
      "\(name) \(Int(done * 100)) %  \(rate)/s"
      + "  p50 \(DurationText.text(nanoseconds: times.nanoseconds(percentile: 50)))"
      + "  p99 \(DurationText.text(nanoseconds: times.nanoseconds(percentile: 99)))"
    let room = columns - text.count - 3
    guard room >= 4 else { return String(text.prefix(max(0, columns - 1))) }
    return "\(text)  \(spark(rates.suffix(room)))"
  }

  /// Rates as small bars, the highest of them as high as they become.
  static func spark(_ rates: ArraySlice<Double>) -> String {
    let most = max(rates.max() ?? 0, .leastNonzeroMagnitude)
    return String(
      rates.map { rate in
        marks[min(marks.count - 1, Int(max(0, rate) / most * Double(marks.count - 1) + 0.5))]
      })
  }
}
