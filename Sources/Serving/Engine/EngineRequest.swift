// What a node asks of the primary's engine, and what comes back. On the primary it goes to the
// writer; on a replica it travels up the ship connection, in one round trip.

import NIOCore
import Store
import WALShip

/// A read that a transaction did before its first write, for the primary to check.
public struct ObservedRead: Equatable, Sendable {
  public var statement: StatementRequest
  /// What the rows of the result add up to.
  public var resultHash: UInt64
  public init(statement: StatementRequest, resultHash: UInt64) {
    self.statement = statement
    self.resultHash = resultHash
  }
}

/// The reads of a transaction so far, and the state they saw.
public struct TransactionBasis: Equatable, Sendable {
  public static let readsMax = 100
  public static let resultBytesMax = 1 << 20
  public var reads: [ObservedRead]
  public var epoch: Epoch
  public var txid: TXID
  public init(reads: [ObservedRead] = [], epoch: Epoch, txid: TXID) {
    self.reads = reads
    self.epoch = epoch
    self.txid = txid
  }
}

public struct EngineRequest: Equatable, Sendable {
  public enum Work: Equatable, Sendable {
    /// One transaction of its own: all statements or none.
    case write([StatementRequest])
    /// Reads, from one snapshot.
    case read([StatementRequest])
    /// Only where the primary stands.
    case position
    /// Opens an interactive write transaction, checks its basis if there is one, and runs
    /// statements in it.
    case begin(basis: TransactionBasis?, [StatementRequest])
    /// Runs statements in an open transaction; COMMIT and ROLLBACK are statements, too.
    case proceed(transaction: UInt64, [StatementRequest])
    /// The client is gone: rolls back.
    case abandon(transaction: UInt64)
    /// Steps of a Hrana stream.
    case program(StreamProgram)
    /// The stream is gone: closes the connection that it had for itself.
    case leave(session: UInt64)
    /// Pages that an offline copy changed, as one commit.
    case push(PagePush)
  }

  public var work: Work
  public var idempotencyKey: String?
  public var timeoutMilliseconds: Int?
  /// False when the session said `PRAGMA foreign_keys = OFF`.
  public var enforcesForeignKeys = true
  /// What the client has seen: only the primary knows for sure that it is still part of the history.
  public var tokens: [Token] = []
  static let tokensMax = 2
  /// What the client may do with this database.
  public var access = AccessLevel.admin
  /// The node that the client speaks to asks for no credential, so nobody knows who it is.
  public var isAnonymous = false

  public init(_ work: Work) { self.work = work }
}

extension EngineRequest {
  /// Whether the request may change the database.
  package var isWrite: Bool {
    switch work {
    case .program(let program): !program.isReading
    case .write, .begin, .proceed, .push: true
    case .read, .position, .abandon, .leave: false
    }
  }
}

/// What one statement gave.
public struct StatementResult: Equatable, Sendable {
  public var columns: [String]
  public var rows: [[Value]]
  /// Nil for statements that change no rows.
  public var changes: Int64?
  public var lastInsertRowid: Int64?
  /// The types of the columns as tables declare them, nil for expressions; empty where nobody asked.
  public var declaredTypes: [String?] = []
  public var counts = RowCounts()
  public init(
    columns: [String] = [], rows: [[Value]] = [], changes: Int64? = nil,
    lastInsertRowid: Int64? = nil
  ) {
    self.columns = columns
    self.rows = rows
    self.changes = changes
    self.lastInsertRowid = lastInsertRowid
  }
}

/// What a statement of a stream has cost, in rows.
public struct RowCounts: Equatable, Sendable {
  /// Rows that the loops of the statement stood at, or that it returned, updated or deleted, if
  /// those are more: what a stock SQLite can tell. Rows that are looked up by their key for each row
  /// of another table are not counted.
  public var read: Int64
  /// Rows inserted, updated and deleted, those of triggers and foreign keys included.
  public var written: Int64
  public init(read: Int64 = 0, written: Int64 = 0) {
    self.read = read
    self.written = written
  }
}

public struct EngineResponse: Equatable, Sendable {
  public struct Failure: Equatable, Sendable {
    public var error: RequestError
    /// Which statement failed; nil when it was none of them.
    public var statement: Int?
    public init(_ error: RequestError, statement: Int? = nil) {
      self.error = error
      self.statement = statement
    }
  }

  public var results: [StatementResult]
  public var failure: Failure?
  /// Where the primary stood afterwards: it covers everything that was seen and done.
  public var position: Position?
  /// The interactive transaction, while it is open.
  public var transaction: UInt64?
  /// How the steps of a program ended.
  public var steps: [StepOutcome] = []
  /// What holds for the stream after its program.
  public var isAutocommit = true
  public var enforcesForeignKeys = true
  /// The stream's own connection at the primary, if it has one.
  public var session: UInt64?

  public init(
    results: [StatementResult] = [], failure: Failure? = nil, position: Position? = nil,
    transaction: UInt64? = nil
  ) {
    self.results = results
    self.failure = failure
    self.position = position
    self.transaction = transaction
  }

  public static func failed(_ error: RequestError) -> EngineResponse {
    EngineResponse(failure: Failure(error))
  }
}

/// The way to the primary's engine: the writer itself, or the link to it.
public protocol PrimaryAccess: Sendable {
  /// Hands a request over. `completion` is called once, on `loop`.
  ///
  /// On a replica the answer to a write is held back until the write is visible there.
  func submit(
    _ request: EngineRequest, on loop: any EventLoop,
    completion: @escaping @Sendable (EngineResponse) -> Void)
}
