// How long a row takes from the primary's answer until a replica shows it.

import Serving

/// Both ends are driven by one thread, so that one clock tells both times.
struct LagBench {
  struct Result {
    /// From the acknowledged write until the answer with the row; it contains one round trip to the
    /// replica.
    var lag = Measurement()
    var write = Measurement()
    var echo = Measurement()
    var timeouts = 0
    var interrupted = false
  }

  let primary: LineClient
  let replica: LineClient
  var samples: Int
  var intervalMilliseconds: Int
  var waitMilliseconds: Int

  func run() throws -> Result {
    let echo = try EchoServer()
    var result = Result()
    var live = LiveView("lag")
    defer { live.end() }
    for sample in 1...samples {
      if Interrupt.take() {
        result.interrupted = true
        break
      }
      try measure(sample, echo, &result)
      live.show(result.lag, done: Double(sample) / Double(samples))
      MonotonicClock.sleep(milliseconds: intervalMilliseconds)
    }
    return result
  }

  private func measure(_ sample: Int, _ echo: EchoServer, _ result: inout Result) throws {
    // First the yardstick: it meets the machine in the same state.
    result.echo.record(nanoseconds: try echo.roundTripNanoseconds())
    let insert = RequestLine.short(
      "INSERT INTO \(BenchTable.name)(id, at) VALUES (?, ?)", .integer(Int64(sample)),
      .integer(Int64(MonotonicClock.nowNanoseconds)))
    let start = MonotonicClock.nowNanoseconds
    try primary.send(insert)
    let written = try primary.finish { _ in }
    let acknowledged = MonotonicClock.nowNanoseconds
    result.write.record(nanoseconds: acknowledged - start)
    guard let token = written.token else {
      throw ClientError.malformedAnswer("the write was answered without a token")
    }
    switch try isVisible(sample, token) {
    case true: result.lag.record(nanoseconds: MonotonicClock.nowNanoseconds - acknowledged)
    case false: result.timeouts += 1
    }
  }

  /// - Returns: false when the replica did not get there in time.
  private func isVisible(_ sample: Int, _ token: String) throws -> Bool {
    var options = RequestLineOptions()
    options.token = token
    options.waitMilliseconds = waitMilliseconds
    options.onLag = .error
    let line = RequestLine.statement(
      "SELECT id FROM \(BenchTable.name) WHERE id = ?", args: .array([.integer(Int64(sample))]),
      options: options)
    do {
      let rows = try replica.request(line).rows
      guard rows.count == 1 else {
        throw CommandFailure(
          .failed, "\(replica.settings.address) answered at \(token) without the row of that write",
          hint: "Is it a replica of \(primary.settings.address)?")
      }
      return true
    } catch let error as ServerError where error.code == "TOKEN_TIMEOUT" {
      return false
    }
  }
}

extension LagBench.Result {
  var curves: [LatencyPlot.Curve] {
    [
      LatencyPlot.Curve(name: "visible at the replica", times: lag),
      LatencyPlot.Curve(name: "acknowledged write", times: write),
      LatencyPlot.Curve(name: "TCP echo on this machine", times: echo),
    ]
  }

  func text(samples: Int) -> String {
    var table = MeasurementTable()
    table.add("visible at the replica", lag)
    table.add("acknowledged write", write)
    table.add("TCP echo, for comparison", echo)
    let missed = timeouts > 0 ? ", \(grouped(timeouts)) not visible in time" : ""
    return "\(grouped(lag.count)) of \(grouped(samples)) samples\(missed)\n\n" + table.text
      + "\nThe first line counts from the primary's answer and holds one round trip.\n"
  }

  func json(samples: Int) -> JSONValue {
    .members([
      ("bench", .string("lag")), ("samples", .integer(Int64(samples))),
      ("timeouts", .integer(Int64(timeouts))), ("interrupted", .bool(interrupted)),
      ("lag", lag.json), ("write", write.json), ("echo", echo.json),
    ])
  }
}
