// Sides that are compared run in turns within one round, forwards and backwards by turns, so that what else happens on
// the machine meets all of them.

/// The sides of one benchmark.
struct Alternation {
  /// Where the values of one number of one side are found.
  struct Key { fileprivate let index: Int }

  private struct Side {
    var keys: Range<Int>
    var measure: () async throws -> [Double]
  }

  private var series: [Series] = []
  private var sides: [Side] = []

  /// Adds a side that gives one number each time it is measured.
  mutating func add(
    _ name: String, _ unit: Unit, _ measure: @escaping () async throws -> Double
  ) -> Key {
    add([(name, unit)]) { [try await measure()] }[0]
  }

  /// Adds a side that gives several numbers at once.
  mutating func add(
    _ numbers: [(String, Unit)], _ measure: @escaping () async throws -> [Double]
  ) -> [Key] {
    let keys = series.count..<series.count + numbers.count
    series += numbers.map { Series(name: $0.0, unit: $0.1) }
    sides.append(Side(keys: keys, measure: measure))
    return keys.map(Key.init)
  }

  /// Measures every side once without counting it, then `rounds` times.
  func run(rounds: Int) async throws -> Measured {
    var series = series
    for round in 0...rounds {
      for side in round % 2 == 0 ? sides : sides.reversed() {
        let values = try await side.measure()
        precondition(values.count == side.keys.count, "a side gives the numbers it announced")
        guard round > 0 else { continue }
        for (key, value) in zip(side.keys, values) { series[key].values.append(value) }
      }
    }
    return Measured(series: series)
  }

  struct Measured {
    fileprivate let series: [Series]

    /// - Parameter floor: nil for a number that stands alone.
    func figure(
      _ name: String, _ edge: Key, over floor: Key? = nil, reach target: Target? = nil
    ) -> Figure {
      Figure(
        name: name, edge: series[edge.index], floor: floor.map { series[$0.index] }, target: target)
    }
    subscript(key: Key) -> Series { series[key.index] }
  }
}

/// How long and how often things are measured.
struct Effort {
  /// For all rounds of one side together.
  var seconds: Double
  var rounds: Int
  /// For one side in one round.
  var slice: Double { seconds / Double(rounds) }
  /// A number of operations that grows with the time allowed; `count` stands for the default of 3 seconds.
  func scaled(_ count: Int) -> Int { max(20, Int(Double(count) * min(1, seconds / 3))) }
}
