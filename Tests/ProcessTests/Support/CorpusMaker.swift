// Cuts a recorded session into seeds for the fuzzer, a folder for each check of `DecoderCheck`.

import EdgeTesting
import Glibc
import NIOCore
import Serving
import WALShip

/// Writes `Fuzz/Corpus`.
struct CorpusMaker {
  let session: NodeTests.Session
  private static let bytesMax = 2000

  func write() throws {
    Files.removeAll(Corpus.folder)
    mkdir(Corpus.folder, 0o755)
    for stream in session.streams where stream.name != "line" {
      for (direction, bytes) in [("up", stream.up), ("down", stream.down)] {
        try write("ship-messages", "\(stream.name)-\(direction)", [6] + bytes.prefix(900))
        try messages(bytes, "\(stream.name)-\(direction)")
      }
    }
    try files()
    try texts()
    // Events for state machines have no form on the wire.
    let beat = ShipHeartbeat(epoch: Epoch(1), txid: TXID(7), contactMilliseconds: 0).encode()
    try write("ship-receiver", "some", Array(beat.readableBytesView) + Self.ramp(200, 3))
    try write("ship-fragments", "some", Self.ramp(200, 5))
    try write("wal-made", "some", Self.ramp(250, 7))
    try write("pushed-frames", "commit", [2, 0, 1, 9, 1, 0, 1, 8, 2, 2, 1, 7])
    try write("pushed-frames", "shrinking", [1, 9, 1, 9, 3, 2, 1, 8])
  }

  private static func ramp(_ count: Int, _ step: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 * step) }
  }

  private func write(_ check: String, _ name: String, _ bytes: [UInt8]) throws {
    guard bytes.count <= Self.bytesMax else { return }
    mkdir("\(Corpus.folder)/\(check)", 0o755)
    try UpgradeFiles.write("\(Corpus.folder)/\(check)/\(name)", of: bytes)
  }

  private func messages(_ stream: [UInt8], _ name: String) throws {
    var buffer = ByteBuffer(bytes: stream)
    var seen: [ShipMessageKind: Int] = [:]
    while let message = try buffer.readShipMessage() {
      var body = message.body
      // The proofs stand in front of these two.
      if message.kind == .join || message.kind == .welcome { body.moveReaderIndex(forwardBy: 32) }
      let bytes = Array(body.readableBytesView)
      let count = seen[message.kind, default: 0]
      seen[message.kind] = count + 1
      guard count < 3 else { continue }
      let name = "\(name)-\(message.kind)-\(count)"
      try write("ship-bodies", name, [message.kind.rawValue] + bytes)
      switch message.kind {
      case .transaction:
        try write("transaction", name, bytes)
        try payloads(body, name)
      case .pages: try write("catch-up-pages", name, bytes)
      case .request: try whole(message.body, "engine-request", name)
      case .response: try whole(message.body, "engine-response", name)
      default: break
      }
    }
  }

  private func whole(_ body: ByteBuffer, _ check: String, _ name: String) throws {
    let piece = try ShipFragment(decoding: body)
    if piece.isLast { try write(check, name, Array(piece.bytes.readableBytesView)) }
  }

  private func payloads(_ body: ByteBuffer, _ name: String) throws {
    try body.withUnsafeReadableBytes { bytes in
      var reader = BodyReader(bytes)
      for number in 0..<(try reader.transactionHeader().pages) where number < 2 {
        let page = try reader.encodedPage()
        try write(
          "page-payload", "\(name)-\(number)", [page.encoding.rawValue] + Array(page.payload))
      }
    }
  }

  private func files() throws {
    for name in ["primary.db", "replica.db"] {
      let database = try UpgradeFiles.read(name)
      try write("database-header", name, Array(database.prefix(100)))
      try write("page-round-trip", name, [0] + database[512..<1536])
      let wal = try UpgradeFiles.read(name + "-wal")
      try write("wal", name, Array(wal.prefix(32 + 3 * 536)))
      let map = try UpgradeFiles.read(name + "-pagemap")
      let bases = PageMapLayout.baseOffsets.map { Array(map[$0..<$0 + PageMapBase.byteCount]) }
      let lives = PageMapLayout.liveOffsets.map { Array(map[$0..<$0 + PageMapLive.byteCount]) }
      let identity = Array(map.prefix(PageMapIdentity.byteCount))
      for (number, record) in ([identity] + bases + lives).enumerated() {
        try write("page-map-records", "\(name)-\(number)", record)
      }
      let records = identity + Array((bases + lives).joined())
      try write("page-map-file", name, [0] + records + map.dropFirst(4096).prefix(640))
    }
  }

  private func texts() throws {
    for (number, line) in session.requests.enumerated() {
      let bytes = Array(line.utf8)
      let check = line.hasPrefix("{") || line.hasPrefix("[") ? "json" : "sql"
      try write(check, "\(number)", bytes)
    }
    let all = session.requests.joined(separator: "\r\n") + "\n"
    try write("lines", "requests", [9] + Array(all.utf8))
    try write("lines", "http", [0] + Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
    try write("base64", "padded", Array("AAEC/w==".utf8))
    try write("base64", "bare", Array("aGVsbG8gd29ybGQ".utf8))
    let trigger =
      "CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT ';'; /* ; */ END; SELECT [;]"
    try write("sql", "trigger", Array(trigger.utf8))
    try credentials()
    try pipelines()
    for (number, token) in try UpgradeFiles.expected()["tokens"]?.elements.enumerated()
      ?? [].enumerated()
    where number < 2 {
      try write("token", "\(number)", Array((token.text ?? "").utf8))
    }
  }

  private func pipelines() throws {
    let pipeline =
      #"{"baton":null,"requests":[{"type":"execute","stmt":{"sql":"SELECT ?, :a","args":["#
      + #"{"type":"integer","value":"7"},{"type":"float","value":1.5},{"type":"blob","#
      + #""base64":"AAE"},{"type":"null"},{"type":"text","value":"x"}],"want_rows":false,"#
      + #""replication_index":"14"}},{"type":"get_autocommit"},{"type":"close"}]}"#
    try write("hrana", "pipeline", Array(pipeline.utf8))
    let batch =
      #"{"requests":[{"type":"batch","batch":{"steps":[{"stmt":{"sql":"BEGIN"}},{"condition":"#
      + #"{"type":"ok","step":0},"stmt":{"sql":"INSERT INTO t VALUES (:a)","named_args":["#
      + #"{"name":"a","value":{"type":"text","value":"x"}}]}},{"condition":{"type":"and","conds":["#
      + #"{"type":"not","cond":{"type":"error","step":1}},{"type":"or","conds":["#
      + #"{"type":"is_autocommit"}]}]},"stmt":{"sql":"COMMIT"}}],"replication_index":3}}]}"#
    try write("hrana", "batch", Array(batch.utf8))
    let texts =
      #"{"requests":[{"type":"store_sql","sql_id":1,"sql":"SELECT 1; SELECT 2"},{"type":"sequence","#
      + #""sql_id":1},{"type":"describe","sql":"SELECT \u00e9"},{"type":"close_sql","sql_id":1}]}"#
    try write("hrana", "texts", Array(texts.utf8))
  }

  /// Made with a key that nobody has any more.
  private func credentials() throws {
    let token = [
      "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9",
      "eyJpYXQiOjE3OTU3MDU1MjQsImV4cCI6MTc5ODI5NzUyNCwicCI6eyJydyI6eyJucyI6WyJkZWZhdWx0Il19fX0",
      "yyZHMe3yUYlE8JnptawOp0fgK5mEUlKaLQw2JZyJT8Bji4x7afWmusZceWhEI774nZxqwGUsE49Hom1vx_olBA",
    ]
    try write("credential", "token", Array(token.joined(separator: ".").utf8))
    let claims =
      #"{"sub":"a","aud":["edge-sql"],"a":"ro","id":"x","iat":1,"nbf":2,"exp":3.0,"p":{"ro":"#
      + #"{"ns":["a","b"]},"rwa":{"ns":["c"],"tags":["t"]},"admin":{"ns":["d"]}}}"#
    try write("credential", "claims", Array(claims.utf8))
    let old = #"{"id":"foobar","a":"rw","exp":1700000000}"#
    try write("credential", "sqld", Array(old.utf8))
  }
}
