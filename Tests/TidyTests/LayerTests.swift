// Who may import whom, and who may touch the disk. The table is the one in CONTRIBUTING.md.

import Testing

@Suite struct LayerTests {
  /// What the files of each module may import, the standard library aside.
  static let imports: [String: Set<String>] = [
    "WALShip": ["CLZ4", "NIOCore"],
    "Store": ["CMalloc", "CSQLite", "WALShip", "NIOCore", "Glibc", "Synchronization"],
    "Serving": [
      "Store", "WALShip", "NIOCore", "NIOPosix", "NIOHTTP1", "NIOWebSocket", "NIOHTTPCompression",
      "Logging", "CoreMetrics", "Crypto", "DequeModule", "Synchronization",
    ],
    "Access": [
      "Serving", "Store", "NIOCore", "NIOPosix", "NIOSSL", "NIOTLS", "JWTKit", "Crypto", "Logging",
      "Glibc", "Synchronization",
    ],
    "Primary": [
      "Serving", "Store", "WALShip", "NIOCore", "NIOPosix", "Logging", "ServiceLifecycle",
      "Synchronization",
    ],
    "Replica": [
      "Serving", "Store", "WALShip", "NIOCore", "NIOPosix", "Logging", "ServiceLifecycle",
      "Synchronization",
    ],
    "edge-sql": [
      "Access", "Primary", "Replica", "Serving", "Store", "WALShip", "NIOCore", "NIOPosix",
      "Logging",
      "ServiceLifecycle", "UnixSignals", "ArgumentParser", "Histogram", "Glibc", "Synchronization",
    ],
    "EdgeTesting": [
      "Access", "Primary", "Replica", "Serving", "Store", "WALShip", "NIOCore", "NIOPosix",
      "Logging",
      "ServiceLifecycle", "Crypto", "Glibc", "Synchronization",
    ],
    "Simulation": [
      "EdgeTesting", "Primary", "Replica", "Serving", "Store", "WALShip", "CSQLite", "NIOCore",
      "NIOEmbedded", "Logging", "Glibc",
    ],
    "edge-sim": ["Simulation", "EdgeTesting", "ArgumentParser", "Glibc", "Synchronization"],
  ]

  /// Libraries that one file alone may know.
  static let onlyImporter = [
    "CLZ4": "Sources/WALShip/Transaction/PageCodec.swift",
    "CMalloc": "Sources/Store/HeapMemory.swift",
  ]

  @Test func modulesImportOnlyWhatTheirLayerMay() {
    for file in Repository.sources {
      guard let allowed = Self.imports[file.module] else {
        Issue.record("\(file.path):1: the module \(file.module) is missing in the layer table")
        continue
      }
      for (line, name) in imports(of: file) where !allowed.contains(name) {
        Issue.record("\(file.path):\(line): \(file.module) must not import \(name)")
      }
    }
  }

  @Test func someLibrariesAreKnownToOneFile() {
    for file in Repository.sources {
      for (line, name) in imports(of: file) {
        guard let only = Self.onlyImporter[name], only != file.path else { continue }
        Issue.record("\(file.path):\(line): only \(only) may import \(name)")
      }
    }
  }

  @Test func sourcesDoNotUseFoundation() {
    for file in Repository.sources {
      for (line, name) in imports(of: file) where name.hasPrefix("Foundation") {
        Issue.record("\(file.path):\(line): \(name) is large and slow to start: do without")
      }
    }
  }

  @Test func onlyStoreTouchesTheDisk() {
    // `Disk.rename` is Store's own and may be called; the bare name is the C library's.
    let pattern =
      /(^|[^.\w]|\bGlibc\.)(pread|preadv|pwrite|pwritev|fsync|fdatasync|msync|ftruncate|rename)\(/
    let mayProbe = [
      "Sources/Store/", "Sources/edge-sql/Doctor/", "Sources/EdgeTesting/", "Sources/Simulation/",
    ]
    for file in Repository.sources where !mayProbe.contains(where: file.path.hasPrefix) {
      report(
        file.findings(
          of: "pread", "pwrite", "sync(", "truncate(", "rename(", in: pattern,
          "disk calls belong to Store"))
    }
  }

  private func imports(of file: SourceFile) -> [(line: Int, name: String)] {
    let pattern =
      #/
      ^\s*(?:@\w+(?:\([^)]*\))?\s+)*
      (?:(?:public|package|internal|fileprivate|private)\s+)?
      import\s+(?:(?:struct|class|enum|protocol|func|var|let|typealias)\s+)?(\w+)
      /#
    return file.code.enumerated().compactMap { index, line in
      guard line.utf8.count < 120, line.contains("import ") else { return nil }
      return line.firstMatch(of: pattern).map { (index + 1, String($0.1)) }
    }
  }
}

/// Records each finding as a failure of the present test.
func report(_ findings: [Finding]) {
  for finding in findings { Issue.record("\(finding)") }
}
