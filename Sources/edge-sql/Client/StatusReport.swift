// The answer of `.status` for people.

import Serving

/// Draws a status; whatever a node of another version does not send is left out.
struct StatusReport {
  let status: JSONValue

  func text() -> String {
    var columns = Columns(.left, .left)
    addNode(to: &columns)
    addUpstream(to: &columns)
    addLog(to: &columns)
    addScrub(to: &columns)
    return columns.text() + replicas()
  }

  private func addNode(to columns: inout Columns) {
    func add(_ name: String, _ text: String?) {
      if let text { columns.add(name, text) }
    }
    add("role", status.member("role").asString)
    let name = status.member("name").asString
    let database = status.member("database").asString
    add("database", [name, database].compactMap(\.self).joined(separator: "  "))
    add("position", position)
    add("token", status.member("token").asString)
    add("size", size)
    let addresses = [("clients", "listen"), ("replicas", "ship")].compactMap { name, key in
      status.member(key).asString.map { "\($0) for \(name)" }
    }
    if !addresses.isEmpty { add("listens", addresses.joined(separator: ", ")) }
    add("connections", status.member("connections").asInt.map(grouped))
    add("uptime", status.member("uptime_ms").asInt.map { DurationText.text(milliseconds: $0) })
    let versions = [("edge-sql", "version"), ("SQLite", "sqlite_version")].compactMap { name, key in
      status.member(key).asString.map { "\(name) \($0)" }
    }
    if !versions.isEmpty { add("version", versions.joined(separator: ", ")) }
  }

  private var position: String? {
    guard let txid = status.member("txid").asInt else {
      return status.member("position").asString
    }
    let epoch = status.member("epoch").asInt.map { "epoch \($0), " } ?? ""
    let checksum = status.member("checksum").asString.map { ", checksum \($0)" } ?? ""
    return "\(epoch)transaction \(grouped(txid))\(checksum)"
  }

  private var size: String? {
    guard let pages = status.member("page_count").asInt else { return nil }
    guard let bytes = status.member("page_size").asInt else { return "\(grouped(pages)) pages" }
    return "\(SizeText.text(pages * bytes)) (\(grouped(pages)) pages of \(SizeText.text(bytes)))"
  }

  private func addUpstream(to columns: inout Columns) {
    let upstream = status.member("upstream")
    guard case .object = upstream else { return }
    let state = upstream.member("state").asString ?? "?"
    let address = upstream.member("address").asString ?? "?"
    columns.add("upstream", "\(address), \(state)\(Self.progress(upstream))")
    columns.add("lag", Self.lag(upstream))
    columns.add("last contact", Self.age(upstream.member("contact_ms")))
    if let error = upstream.member("last_error").asString { columns.add("last error", error) }
  }

  private func addLog(to columns: inout Columns) {
    let wal = status.member("wal")
    if let frames = wal.member("frames").asInt {
      let bytes = wal.member("bytes").asInt.map { ", \(SizeText.text($0))" } ?? ""
      let done = wal.member("backfilled").asInt.map { ", \(grouped($0)) in the database" } ?? ""
      let file = wal.member("file_bytes").asInt.map { ", a file of \(SizeText.text($0))" } ?? ""
      columns.add("WAL", "\(grouped(frames)) frames\(bytes)\(done)\(file)")
    }
    let checkpoints = status.member("checkpoints")
    if let count = checkpoints.member("count").asInt {
      let last = checkpoints.member("last_ms_ago")
      let age = last.isNull ? "" : ", last \(Self.age(last))"
      let restarts = checkpoints.member("restarts").asInt.map { ", \(grouped($0)) WAL restarts" }
      let error = checkpoints.member("last_error").asString.map { ", last error: \($0)" }
      columns.add("checkpoints", grouped(count) + age + (restarts ?? "") + (error ?? ""))
    }
    if let pinned = checkpoints.member("pinned_ms").asInt {
      let limit = checkpoints.member("limit_frames").asInt.map {
        ", beyond its limit of \(grouped($0)) frames"
      }
      columns.add(
        "pinned",
        "a reader keeps the WAL\(limit ?? "") for "
          + DurationText.text(milliseconds: pinned))
    }
    let shipped = status.member("shipped")
    if let transactions = shipped.member("transactions").asInt {
      columns.add("shipped", "\(grouped(transactions)) transactions" + Self.volume(shipped))
    }
  }

  private func addScrub(to columns: inout Columns) {
    if let damage = status.member("damage").asString { columns.add("damage", damage) }
    let kept = (status.member("diverged").asArray ?? []).compactMap(\.asString)
    if !kept.isEmpty { columns.add("kept aside", kept.joined(separator: ", ")) }
    let scrub = status.member("scrub")
    guard let done = scrub.member("pages_done").asInt, let total = scrub.member("pages_total").asInt
    else { return }
    let last = "last finished \(Self.age(scrub.member("finished_ms_ago")))"
    let now =
      scrub.member("running").asBool == true ? "\(grouped(done)) of \(grouped(total)) pages, " : ""
    let found = [
      ("damaged", "damaged"), ("repaired", "repaired"), ("mended", "map entries mended"),
    ]
    .compactMap { key, name in
      scrub.member(key).asInt.flatMap { $0 > 0 ? ", \(grouped($0)) \(name)" : nil }
    }
    let error = scrub.member("last_error").asString.map { ", last error: \($0)" } ?? ""
    columns.add("scrub", now + last + found.joined() + error)
  }

  private static func volume(_ shipped: JSONValue) -> String {
    let pages = shipped.member("pages").asInt.map { ", \(grouped($0)) pages" } ?? ""
    guard let raw = shipped.member("raw_bytes").asInt,
      let encoded = shipped.member("encoded_bytes").asInt
    else { return pages }
    let ratio = encoded > 0 ? " (\(fixed(Double(raw) / Double(encoded), decimals: 1)) : 1)" : ""
    return "\(pages), \(SizeText.text(raw)) as \(SizeText.text(encoded))\(ratio)"
  }

  private func replicas() -> String {
    guard let replicas = status.member("replicas").asArray else { return "" }
    if replicas.isEmpty {
      return status.member("role").asString == "primary" ? "\nno replicas\n" : ""
    }
    var columns = Columns(.left, .left, .left, .right, .right, .right, .right, .right)
    columns.add("replica", "address", "state", "position", "behind", "lag", "contact", "sent")
    for replica in replicas {
      func number(_ key: String, _ text: (Int) -> String) -> String {
        replica.member(key).asInt.map(text) ?? "-"
      }
      columns.add(
        replica.member("name").asString ?? "-", replica.member("address").asString ?? "-",
        replica.member("state").asString ?? "-", number("txid", grouped),
        number("lag_txns") { "+" + grouped($0) },
        number("lag_ms") { DurationText.text(milliseconds: $0) },
        Self.age(replica.member("contact_ms")), number("bytes_sent") { SizeText.text($0) })
    }
    return "\n" + columns.text()
  }

  /// How far a copy is; nothing when there is none.
  private static func progress(_ upstream: JSONValue) -> String {
    guard let part = upstream.member("progress").asDouble else { return "" }
    let percent = " \(fixed(part * 100, decimals: 0)) %"
    guard let received = upstream.member("received_bytes").asInt,
      let expected = upstream.member("expected_bytes").asInt
    else { return percent }
    return "\(percent), \(SizeText.text(received)) of \(SizeText.text(expected))"
  }

  private static func lag(_ upstream: JSONValue) -> String {
    let transactions = upstream.member("lag_txns").asInt.map { count in
      count == 1 ? "1 transaction" : "\(grouped(count)) transactions"
    }
    let time = upstream.member("lag_ms").asInt.map { DurationText.text(milliseconds: $0) }
    let parts = [transactions, time].compactMap(\.self)
    return parts.isEmpty ? "not known" : parts.joined(separator: ", ")
  }

  private static func age(_ milliseconds: JSONValue) -> String {
    milliseconds.asInt.map { DurationText.text(milliseconds: $0) + " ago" } ?? "never"
  }
}
