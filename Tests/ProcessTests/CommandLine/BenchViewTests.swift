// What `edge-sql bench` shows while it runs, and what it draws.

import Testing

@testable import edge_sql

@Suite struct BenchViewTests {
  private func measurement(_ microseconds: [UInt64]) -> Measurement {
    var measurement = Measurement()
    for time in microseconds { measurement.record(nanoseconds: time * 1000) }
    return measurement
  }

  @Test(arguments: [10, 40, 60, 80, 200])
  func theLiveLineFitsIntoTheTerminal(_ columns: Int) {
    let rates = (1...24).map { Double($0 * 1000) }
    let times = measurement(Array(100...400))
    let line = LiveView.line("read at the replica", times, rates, 0.5, columns)
    #expect(line.count < columns)
    #expect(line.contains("50 %") == (columns >= 40))
    #expect(line.contains("24,000/s") == (columns >= 40))
    if columns == 200 { #expect(line.hasSuffix("█")) }
  }

  @Test func sparksAreAsHighAsTheirRates() {
    #expect(LiveView.spark([0, 50, 100]) == "▁▅█")
    #expect(LiveView.spark([0, 0]) == "▁▁")
    #expect(LiveView.spark([]) == "")
  }

  @Test func everyCurveThatWasMeasuredIsDrawn() {
    let plot = LatencyPlot(
      title: "a & b",
      curves: [
        LatencyPlot.Curve(name: "<reads>", times: measurement(Array(20...900))),
        LatencyPlot.Curve(name: "nothing", times: Measurement()),
        LatencyPlot.Curve(name: "writes", times: measurement([300])),
      ])
    let svg = plot.svg
    #expect(svg.hasPrefix("<svg ") && svg.hasSuffix("</svg>\n"))
    #expect(svg.contains("a &amp; b") && svg.contains("&lt;reads&gt;: p50 "))
    #expect(svg.split(separator: "<polyline").count == 3)
    #expect(!svg.contains("nothing"))
  }

  @Test func rarerAnswersAreFurtherRightAndNeverQuicker() throws {
    let plot = LatencyPlot(
      title: "", curves: [LatencyPlot.Curve(name: "a", times: measurement(Array(1...10_000)))])
    let list = try #require(
      plot.svg.split(separator: "points=\"").last?.split(separator: "\"").first)
    let points = try list.split(separator: " ").map { point in
      let parts = point.split(separator: ",")
      return (x: try #require(Double(parts[0])), y: try #require(Double(parts[1])))
    }
    #expect(points.count > 30)
    for (one, next) in zip(points, points.dropFirst()) {
      #expect(next.x > one.x)
      #expect(next.y <= one.y, "lower on the page is quicker")
    }
    for point in points { #expect((0...860).contains(point.x) && (0...480).contains(point.y)) }
  }
}
