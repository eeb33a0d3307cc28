// Keeps what swift-metrics is told, for `GET /metrics`: counters, gauges, and histograms.
//
// Source: https://prometheus.io/docs/instrumenting/exposition_formats/

import CoreMetrics
import Synchronization

/// A backend of swift-metrics that lives in this process. Safe to use from any thread.
public final class MetricsRegistry: MetricsFactory {
  /// The one of this process.
  public static let shared = MetricsRegistry()

  private let meters = Mutex<[String: any RegisteredMeter]>([:])

  public init() {}

  /// Makes it the backend of swift-metrics. Only the first call does something; no other backend
  /// must have been chosen.
  public static func bootstrap() { _ = isBootstrapped }
  private static let isBootstrapped: Bool = {
    MetricsSystem.bootstrap(shared)
    return true
  }()

  /// All meters, each with its HELP and TYPE.
  func write(into text: inout MetricsText) {
    let all = meters.withLock { $0.sorted { $0.key < $1.key } }
    for (name, meter) in all { meter.write(name, into: &text) }
  }

  private func meter<M: RegisteredMeter>(_ label: String, _ make: () -> M) -> M {
    meters.withLock { meters in
      if let known = meters[label] as? M { return known }
      let made = make()
      meters[label] = made
      return made
    }
  }

  // MARK: swift-metrics

  public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
    meter(label) { RegisteredCounter() }
  }

  public func makeFloatingPointCounter(
    label: String, dimensions: [(String, String)]
  ) -> any FloatingPointCounterHandler {
    meter(label) { RegisteredGauge() }
  }

  public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
    meter(label) { RegisteredGauge() }
  }

  public func makeRecorder(
    label: String, dimensions: [(String, String)], aggregate: Bool
  ) -> any RecorderHandler {
    meter(label) { RegisteredGauge() }
  }

  public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
    meter(label) { RegisteredHistogram() }
  }

  public func destroyCounter(_ handler: any CounterHandler) {}
  public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
  public func destroyMeter(_ handler: any MeterHandler) {}
  public func destroyRecorder(_ handler: any RecorderHandler) {}
  public func destroyTimer(_ handler: any TimerHandler) {}
}

private protocol RegisteredMeter: AnyObject, Sendable {
  func write(_ name: String, into text: inout MetricsText)
}

private final class RegisteredCounter: CounterHandler, RegisteredMeter {
  private let count = Atomic<Int64>(0)

  func increment(by amount: Int64) { count.wrappingAdd(amount, ordering: .relaxed) }
  func reset() { count.store(0, ordering: .relaxed) }

  func write(_ name: String, into text: inout MetricsText) {
    text.add(meter: name, .counter, Double(count.load(ordering: .relaxed)))
  }
}

private final class RegisteredGauge: MeterHandler, RecorderHandler, FloatingPointCounterHandler,
  RegisteredMeter
{
  private let value = Mutex(0.0)

  func set(_ value: Int64) { self.value.withLock { $0 = Double(value) } }
  func set(_ value: Double) { self.value.withLock { $0 = value } }
  func increment(by amount: Double) { value.withLock { $0 += amount } }
  func decrement(by amount: Double) { value.withLock { $0 -= amount } }
  func record(_ value: Int64) { set(value) }
  func record(_ value: Double) { set(value) }
  func reset() { set(0.0) }

  func write(_ name: String, into text: inout MetricsText) {
    text.add(meter: name, .gauge, value.withLock { $0 })
  }
}

private final class RegisteredHistogram: TimerHandler, RegisteredMeter {
  /// Upper ends, in seconds.
  private static let ends: [Double] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
  ]
  private struct State {
    var counts = [UInt64](repeating: 0, count: ends.count + 1)
    var nanoseconds: Double = 0
  }
  private let state = Mutex(State())

  func recordNanoseconds(_ duration: Int64) {
    let seconds = Double(duration) / 1e9
    let bucket = Self.ends.firstIndex { seconds <= $0 } ?? Self.ends.count
    state.withLock { state in
      state.counts[bucket] += 1
      state.nanoseconds += Double(duration)
    }
  }

  func write(_ name: String, into text: inout MetricsText) {
    let state = state.withLock { $0 }
    text.add(
      histogram: name, ends: Self.ends, counts: state.counts, sum: state.nanoseconds / 1e9)
  }
}
