// A picture of what a bench measured: which part of all answers came within which time, as SVG, which
// every browser shows.
// Source: https://www.w3.org/TR/SVG2/

import Glibc

/// Curves of times over percentiles, both logarithmic: a point to the right is a rarer answer.
struct LatencyPlot {
  struct Curve {
    var name: String
    var times: Measurement
  }

  let title: String
  let curves: [Curve]

  private static let width = 860.0, height = 480.0
  private static let left = 78.0, right = 24.0, top = 52.0, bottom = 56.0
  private static let percentiles: [Double] = [50, 90, 99, 99.9, 99.99]
  private static let colours = ["#0b6e99", "#c2571a", "#3b7d3b", "#8b4a9c", "#a08400", "#b03048"]
  private static let legendLine = 18.0
  private static let stepsPerDecade = 12

  init(title: String, curves: [Curve]) {
    self.title = title
    self.curves = curves.filter { $0.times.count > 0 }
  }

  var svg: String {
    var text = """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(Self.width)) \(Int(Self.height))" \
      font-family="sans-serif" font-size="12">
      <rect width="100%" height="100%" fill="white"/>
      <text x="\(Self.left)" y="26" font-size="16">\(Self.escaped(title))</text>

      """
    guard !curves.isEmpty else { return text + "</svg>\n" }
    let range = decades
    text += grid(range)
    for (index, curve) in curves.enumerated() {
      let colour = Self.colours[index % Self.colours.count]
      text += line(curve, colour, range) + legend(curve, colour, index)
    }
    return text + "</svg>\n"
  }

  // MARK: Axes

  /// The powers of ten, in nanoseconds, between which all times lie.
  private var decades: ClosedRange<Int> {
    let least = curves.map { $0.times.nanoseconds(percentile: 0) }.min() ?? 1
    let most = curves.map(\.times.maxNanoseconds).max() ?? 1
    let first = Int(log10(Double(max(1, least))).rounded(.down))
    return first...max(first + 1, Int(log10(Double(max(1, most))).rounded(.up)))
  }

  /// 0 at none, one more with each further nine of those that are quicker.
  private static func rarity(_ percentile: Double) -> Double { -log10(1 - percentile / 100) }

  private static func x(_ percentile: Double) -> Double {
    let most = rarity(percentiles[percentiles.count - 1])
    return left + rarity(percentile) / most * (width - left - right)
  }

  private static func y(_ nanoseconds: UInt64, _ range: ClosedRange<Int>) -> Double {
    let place = log10(Double(max(1, nanoseconds))) - Double(range.lowerBound)
    return height - bottom - place / Double(range.count - 1) * (height - top - bottom)
  }

  private func grid(_ range: ClosedRange<Int>) -> String {
    var text = ""
    for decade in range {
      let nanoseconds = UInt64(pow(10, Double(decade)))
      let y = Self.y(nanoseconds, range)
      text += Self.rule(Self.left, y, Self.width - Self.right, y)
      let label = DurationText.text(nanoseconds: nanoseconds)
      text +=
        "<text x=\"\(Self.left - 8)\" y=\"\(y + 4)\" text-anchor=\"end\">\(label)</text>\n"
    }
    for percentile in Self.percentiles {
      let x = Self.x(percentile)
      text += Self.rule(x, Self.top, x, Self.height - Self.bottom)
      text +=
        "<text x=\"\(x)\" y=\"\(Self.height - Self.bottom + 18)\" text-anchor=\"middle\">"
        + "p\(Self.short(percentile))</text>\n"
    }
    return text
  }

  private static func rule(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double) -> String {
    "<line x1=\"\(x1)\" y1=\"\(y1)\" x2=\"\(x2)\" y2=\"\(y2)\" stroke=\"#ddd\"/>\n"
  }

  // MARK: Curves

  private func line(_ curve: Curve, _ colour: String, _ range: ClosedRange<Int>) -> String {
    let steps = Int(Self.rarity(99.99) * Double(Self.stepsPerDecade))
    let points = (0...steps).map { step in
      let percentile = 100 * (1 - pow(10, -Double(step) / Double(Self.stepsPerDecade)))
      let nanoseconds = curve.times.nanoseconds(percentile: percentile)
      return "\(Self.tenths(Self.x(percentile))),\(Self.tenths(Self.y(nanoseconds, range)))"
    }
    return "<polyline fill=\"none\" stroke=\"\(colour)\" stroke-width=\"2\" "
      + "points=\"\(points.joined(separator: " "))\"/>\n"
  }

  private func legend(_ curve: Curve, _ colour: String, _ index: Int) -> String {
    let y = Self.top + 14 + Double(index) * Self.legendLine
    let p50 = DurationText.text(nanoseconds: curve.times.nanoseconds(percentile: 50))
    let p99 = DurationText.text(nanoseconds: curve.times.nanoseconds(percentile: 99))
    return "<rect x=\"\(Self.left + 12)\" y=\"\(y - 9)\" width=\"10\" height=\"10\" "
      + "fill=\"\(colour)\"/><text x=\"\(Self.left + 28)\" y=\"\(y)\">"
      + "\(Self.escaped(curve.name)): p50 \(p50), p99 \(p99)</text>\n"
  }

  private static func tenths(_ value: Double) -> Double { (value * 10).rounded() / 10 }

  private static func short(_ value: Double) -> String {
    value == value.rounded() ? "\(Int(value))" : "\(value)"
  }

  private static func escaped(_ text: String) -> String {
    text.reduce(into: "") { result, character in
      switch character {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      default: result.append(character)
      }
    }
  }
}
