// What a bench measured: times in a histogram, and how they are told.

import Histogram
import Serving

/// Times in nanoseconds, with three digits that matter.
struct Measurement {
  private var histogram = Histogram<UInt64>(
    highestTrackableValue: 3_600_000_000_000, numberOfSignificantValueDigits: .three)

  static let percentiles: [(name: String, key: String, percentile: Double)] = [
    ("p50", "p50_us", 50), ("p90", "p90_us", 90), ("p99", "p99_us", 99), ("p99.9", "p999_us", 99.9),
  ]

  var count: Int { Int(histogram.totalCount) }

  mutating func record(nanoseconds: UInt64) {
    histogram.record(min(max(nanoseconds, 1), 3_600_000_000_000))
  }

  /// The time that `percentile` percent of all do not exceed; 0 when there are none.
  func nanoseconds(percentile: Double) -> UInt64 {
    histogram.totalCount == 0 ? 0 : histogram.valueAtPercentile(percentile)
  }

  var maxNanoseconds: UInt64 { histogram.totalCount == 0 ? 0 : histogram.max }

  /// `{"count":…,"p50_us":…,…,"p999_us":…,"max_us":…}`
  var json: JSONValue {
    func microseconds(_ value: UInt64) -> JSONValue { .real(Double(value / 100) / 10) }
    let count = [("count", JSONValue.integer(Int64(count)))]
    let times = Self.percentiles.map {
      ($0.key, microseconds(nanoseconds(percentile: $0.percentile)))
    }
    return .members(count + times + [("max_us", microseconds(maxNanoseconds))])
  }
}

/// Measurements under each other.
struct MeasurementTable {
  private var columns = Columns(.left, .right, .right, .right, .right, .right)

  init() {
    let names = Measurement.percentiles.map(\.name)
    columns.add("", names[0], names[1], names[2], names[3], "max")
  }

  mutating func add(_ name: String, _ measurement: Measurement) {
    let times = Measurement.percentiles.map {
      DurationText.text(nanoseconds: measurement.nanoseconds(percentile: $0.percentile))
    }
    let longest = DurationText.text(nanoseconds: measurement.maxNanoseconds)
    columns.add(name, times[0], times[1], times[2], times[3], longest)
  }

  var text: String { columns.text() }
}
