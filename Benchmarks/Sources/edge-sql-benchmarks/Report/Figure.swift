// A figure is never a number alone: it is a measured side, the floor beside it, and the ratio of the two in each round.

/// What a number counts, and which way is better.
enum Unit: String {
  case perSecond = "/s"
  case nanoseconds = "ns"
  case microseconds = "µs"
  case seconds = "s"
  case bytes = "bytes"
  case bytesPerSecond = "bytes/s"
  case megabytesPerSecond = "MB/s"
  case percent = "%"
  case count = ""

  var isHigherBetter: Bool { self == .perSecond || self == .megabytesPerSecond }
}

/// One side of a comparison: its value in each round.
struct Series {
  var name: String
  var unit: Unit
  var values: [Double] = []

  var spread: Spread { Spread(values) }
}

/// The middle and the ends of some values.
struct Spread {
  var least: Double
  var median: Double
  var most: Double

  init(_ values: [Double]) {
    let sorted = values.sorted()
    guard let first = sorted.first, let last = sorted.last else {
      (least, median, most) = (.nan, .nan, .nan)
      return
    }
    least = first
    most = last
    let middle = sorted.count / 2
    median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}

/// What a figure should reach.
enum Target {
  case ratioAtLeast(Double), ratioAtMost(Double)
  /// Of the number itself, in its unit.
  case atLeast(Double), atMost(Double)
  /// So much more than the floor, in its unit.
  case aboveFloorAtMost(Double)
}

/// A measured side, beside its floor where there is one.
struct Figure {
  var name: String
  var edge: Series
  var floor: Series?
  var target: Target?

  /// Both sides of each round ran next to each other, so their ratio is what a busy machine disturbs least.
  var ratios: [Double] {
    guard let floor else { return [] }
    return zip(edge.values, floor.values).map { $0 / $1 }
  }
  var ratio: Spread { Spread(ratios) }

  /// Nil without a target.
  var isMet: Bool? {
    guard let target else { return nil }
    switch target {
    case .ratioAtLeast(let least): return ratio.median >= least
    case .ratioAtMost(let most): return ratio.median <= most
    case .atLeast(let least): return edge.spread.median >= least
    case .atMost(let most): return edge.spread.median <= most
    case .aboveFloorAtMost(let most):
      let differences = zip(edge.values, floor?.values ?? []).map { $0 - $1 }
      return Spread(differences).median <= most
    }
  }
}

/// What one benchmark gives.
struct GroupReport {
  var name: String
  /// What was measured, in a line.
  var subject: String
  var figures: [Figure] = []
  var notes: [String] = []
}
