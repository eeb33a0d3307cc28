// Where the interactive transaction of a session is: on a reader of this node while it only reads,
// at the primary from its first write on.

import NIOCore
import Store
import WALShip

/// The transaction of a session.
enum SessionTransaction {
  case none
  /// A snapshot of this node.
  case reading(LocalTransaction)
  case writing(WriteTransaction)
  /// It was rolled back, but not because the client said so. Everything fails until the client says
  /// COMMIT or ROLLBACK: what it has sent already must not run outside of the transaction it was
  /// meant for.
  case failed(RequestError)
}

/// A transaction that is open at the primary.
struct WriteTransaction {
  var id: UInt64
  var savepoints = SavepointStack()
  /// It began with a SAVEPOINT, so the RELEASE of that one commits.
  var endsWithSavepoint = false
}
