// Every limit on what clients may use of a node, in one place, each with a default that needs no
// tuning.
// Source: docs/GUARANTEES.md, limits

/// What clients of a node may use. Limits of SQLite itself are set by `Connection`.
public struct ServingLimits: Equatable, Sendable {
  // MARK: Connections

  /// Connections beyond are answered with `OVERLOADED` and closed.
  public var connectionsMax = 2048
  /// The longest request line, in bytes without its end.
  public var lineBytesMax = 1 << 20
  /// How long the rest of a line may take once it has begun.
  public var lineMilliseconds = 10_000
  /// How long a client may wait before it shows its credential, where one is asked for.
  public var credentialMilliseconds = 10_000
  /// How long a client may leave its answers unread before it is cut off.
  public var unreadMilliseconds = 60_000
  /// Requests of one connection that wait for their turn, in bytes; then its socket is not read.
  public var queuedBytesMax = 256 << 10
  /// Writes of one connection that are with the primary at the same time.
  public var pipelinedWritesMax = 256
  /// The same, in bytes of SQL and arguments.
  public var pipelinedBytesMax = 1 << 20
  /// How long the rest of an HTTP request may take once it has begun.
  public var httpRequestMilliseconds = 10_000
  /// How long an HTTP connection may be idle.
  public var httpIdleMilliseconds = 60_000
  /// How long the answer to an HTTP client may take to begin that sends nothing more: mostly it is
  /// gone, and its statement need not go on.
  public var httpHalfClosedMilliseconds = 1000
  /// How long a stop waits for requests that are being worked on.
  public var drainMilliseconds = 5000

  // MARK: Embedded replicas

  /// The longest that a pull waits for something newer, whatever it asks for.
  public var pullWaitMillisecondsMax = 60_000
  /// Pulls that wait, in one process; those beyond are answered at once.
  public var pullWaitersMax = 1024

  // MARK: Statements

  /// How long one statement, or one batch, may work.
  public var statementMilliseconds = 5000
  /// How long an interactive write transaction may be open: it has the writer to itself.
  public var transactionMilliseconds = 5000
  /// How long an interactive transaction that only reads may be open.
  public var readTransactionMilliseconds = 60_000
  /// The largest answer that is not streamed.
  public var responseBytesMax = 10 << 20
  /// The most rows that are drawn as a table, or as CSV.
  public var tableRowsMax = 10_000

  // MARK: Streams

  /// Streams of HTTP clients that wait for their next request, or work on one.
  public var streamsMax = 4096
  /// How long such a stream waits for its next request.
  public var streamIdleMilliseconds = 10_000
  /// Streams that have a connection of their own at the primary, for TEMP objects.
  public var streamConnectionsMax = 64
  /// How long such a connection is kept without work.
  public var streamConnectionIdleMilliseconds = 300_000
  /// What the TEMP objects of one stream may take.
  public var temporaryBytesMax = 256 << 20

  // MARK: Reads

  /// The most rows in one line of a streamed result, and in a result that an event loop makes.
  public var chunkRowsMax = 256
  /// The same, in bytes; one row more is allowed.
  public var chunkBytesMax = 64 << 10
  /// How far a statement may come on an event loop: about 50 µs of work for each thousand.
  public var loopInstructionsMax = 20_000
  /// A statement that kept an event loop longer than this runs on the pool from then on.
  public var loopMicrosecondsMax: UInt64 = 3000
  /// How long one connection may keep an event loop while others wait.
  public var turnMicrosecondsMax: UInt64 = 2000
  /// Compiled statements that each reading connection keeps.
  public var statementCacheMax = 256
  /// Pages that the reading connection of each event loop keeps, in KiB; SQLite's own default is
  /// 2000. A page that is not kept is a call of the system for almost every read by key.
  public var loopCacheKibibytes = 8192
  /// Threads for reads that are slow, large, or part of a transaction.
  public var readersMax = 64
  /// Reads that wait for one of them.
  public var readerWaitersMax = 1024
  /// How long one of them is kept without work.
  public var readerIdleMilliseconds = 30_000

  // MARK: Tokens

  /// How long a read waits for its token unless it says otherwise.
  public var tokenWaitMilliseconds = 1000
  /// The longest that it may ask for.
  public var tokenWaitMillisecondsMax = 30_000
  /// Reads that wait for tokens, on the whole node.
  public var tokenWaitersMax = 10_000

  public init() {}
}
