final class HranaStreams: Sendable {
  init(limits: ServingLimits) {}
  func close() async {}
}
