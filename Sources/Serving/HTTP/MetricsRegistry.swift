// Keeps what swift-metrics is told, for `GET /metrics`: counters, gauges, and histograms.
//
// Source: https://prometheus.io/docs/instrumenting/exposition_formats/

import CoreMetrics
import Synchronization

/// A backend of swift-metrics that lives in this process. Safe to use from any thread.
public final class MetricsRegistry: MetricsFactory {
  /// The one of this process.
  public static let shared = MetricsRegistry()

  private struct Key: Hashable, Comparable {
    var name: String
    /// As they are written: `a="b"`.
    var labels: String

    static func < (left: Self, right: Self) -> Bool {
      (left.name, left.labels) < (right.name, right.labels)
    }
  }

  private let meters = Mutex<[Key: any RegisteredMeter]>([:])

  public init() {}

  /// Makes it the backend of swift-metrics. Only the first call does something; no other backend
  /// must have been chosen.
  public static func bootstrap() { _ = isBootstrapped }
  private static let isBootstrapped: Bool = {
    MetricsSystem.bootstrap(shared)
    return true
  }()

  /// All meters; those of one name have one HELP and TYPE.
  func write(into text: inout MetricsText) {
    let all = meters.withLock { $0.sorted { $0.key < $1.key } }
    for (key, meter) in all { meter.write(key.name, key.labels, into: &text) }
  }

  private func meter<M: RegisteredMeter>(
    _ name: String, _ dimensions: [(String, String)], _ make: () -> M
  ) -> M {
    let key = Key(name: name, labels: MetricsText.labels(dimensions))
    return meters.withLock { meters in
      if let known = meters[key] as? M { return known }
      let made = make()
      meters[key] = made
      return made
    }
  }

  // MARK: swift-metrics

  public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
    meter(label, dimensions) { RegisteredCounter() }
  }

  public func makeFloatingPointCounter(
    label: String, dimensions: [(String, String)]
  ) -> any FloatingPointCounterHandler {
    meter(label, dimensions) { RegisteredGauge() }
  }

  public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
    meter(label, dimensions) { RegisteredGauge() }
  }

  public func makeRecorder(
    label: String, dimensions: [(String, String)], aggregate: Bool
  ) -> any RecorderHandler {
    meter(label, dimensions) { RegisteredGauge() }
  }

  public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
    meter(label, dimensions) { RegisteredHistogram() }
  }

  public func destroyCounter(_ handler: any CounterHandler) {}
  public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
  public func destroyMeter(_ handler: any MeterHandler) {}
  public func destroyRecorder(_ handler: any RecorderHandler) {}
  public func destroyTimer(_ handler: any TimerHandler) {}
}

private protocol RegisteredMeter: AnyObject, Sendable {
  func write(_ name: String, _ labels: String, into text: inout MetricsText)
}

private final class RegisteredCounter: CounterHandler, RegisteredMeter {
  private let count = Atomic<Int64>(0)

  func increment(by amount: Int64) { count.wrappingAdd(amount, ordering: .relaxed) }
  func reset() { count.store(0, ordering: .relaxed) }

  func write(_ name: String, _ labels: String, into text: inout MetricsText) {
    text.add(meter: name, labels, .counter, Double(count.load(ordering: .relaxed)))
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

  func write(_ name: String, _ labels: String, into text: inout MetricsText) {
    text.add(meter: name, labels, .gauge, value.withLock { $0 })
  }
}

private final class RegisteredHistogram: TimerHandler, RegisteredMeter {
  /// Upper ends, in seconds.
  private static let ends: [Double] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
  ]
  /// No lock: every request of a node comes by.
  private let counts = (0...ends.count).map { _ in RegisteredCount() }
  private let nanoseconds = RegisteredCount()

  func recordNanoseconds(_ duration: Int64) {
    let seconds = Double(duration) / 1e9
    let bucket = Self.ends.firstIndex { seconds <= $0 } ?? Self.ends.count
    counts[bucket].add(1)
    nanoseconds.add(duration)
  }

  func write(_ name: String, _ labels: String, into text: inout MetricsText) {
    text.add(
      histogram: name, labels, ends: Self.ends, counts: counts.map { UInt64($0.value) },
      sum: Double(nanoseconds.value) / 1e9)
  }
}

/// A number that threads add to.
private final class RegisteredCount: Sendable {
  private let count = Atomic<Int64>(0)
  var value: Int64 { count.load(ordering: .relaxed) }
  func add(_ amount: Int64) { count.wrappingAdd(amount, ordering: .relaxed) }
}
