// Waits until the node can say which position a place in the WAL is: a read saw a commit that
// capture has yet to number.

import NIOCore
import Store
import WALShip

/// One such wait. It is used on its loop alone.
final class PlaceWait {
  private let tracker: PositionTracker
  private let place: LogPlace
  private let loop: any EventLoop
  private var completion: ((Position?) -> Void)?
  private var waiter: PositionTracker.WaiterID?
  private var alarm: Scheduled<Void>?

  /// - Parameter completion: called once, on `loop`, with nil when it takes too long.
  init(
    tracker: PositionTracker, place: LogPlace, loop: any EventLoop,
    completion: @escaping (Position?) -> Void
  ) {
    self.tracker = tracker
    self.place = place
    self.loop = loop
    self.completion = completion
  }

  static let unnumbered = RequestError(
    .tokenTimeout, "what was read has no transaction number yet")

  /// Calls back at once when the place is known already.
  func start(milliseconds: Int) {
    if case .position(let position) = tracker.resolve(place) { return finish(position) }
    let bound = NIOLoopBound(self, eventLoop: loop)
    alarm = loop.scheduleTask(in: .milliseconds(Int64(milliseconds))) {
      bound.value.finish(nil)
    }
    listen()
  }

  func cancel() {
    completion = nil
    alarm?.cancel()
    if let waiter { tracker.cancel(waiter) }
    waiter = nil
  }

  private func listen() {
    let bound = NIOLoopBound(self, eventLoop: loop)
    waiter = tracker.whenReached(.place(place)) { [loop] in
      loop.execute { bound.value.woken() }
    }
  }

  private func woken() {
    guard completion != nil else { return }
    switch tracker.resolve(place) {
    case .position(let position): finish(position)
    case .ahead: listen()
    }
  }

  private func finish(_ position: Position?) {
    guard let completion else { return }
    cancel()
    completion(position)
  }
}
