// swift-tools-version: 6.2
import PackageDescription

let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioHTTP = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioWebSocket = Target.Dependency.product(name: "NIOWebSocket", package: "swift-nio")
let nioCompression = Target.Dependency.product(
  name: "NIOHTTPCompression", package: "swift-nio-extras")
let nioTLS = Target.Dependency.product(name: "NIOTLS", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let jwt = Target.Dependency.product(name: "JWTKit", package: "jwt-kit")
let metrics = Target.Dependency.product(name: "CoreMetrics", package: "swift-metrics")
let signals = Target.Dependency.product(
  name: "UnixSignals", package: "swift-service-lifecycle")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let collections = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let lifecycle = Target.Dependency.product(
  name: "ServiceLifecycle", package: "swift-service-lifecycle")

let package = Package(
  name: "edge-sql",
  products: [
    .executable(name: "edge-sql", targets: ["edge-sql"]),
    .library(name: "Primary", targets: ["Primary"]),
    .library(name: "Replica", targets: ["Replica"]),
    .library(name: "Serving", targets: ["Serving"]),
    .library(name: "Store", targets: ["Store"]),
    .library(name: "WALShip", targets: ["WALShip"]),
    // For the package `Fuzz` alone.
    .library(name: "EdgeTesting", targets: ["EdgeTesting"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.0"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.0"),
    .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
    .package(url: "https://github.com/vapor/jwt-kit", from: "5.7.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
  ],
  targets: [
    .systemLibrary(
      name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),
    .systemLibrary(name: "CLZ4", pkgConfig: "liblz4", providers: [.apt(["liblz4-dev"])]),
    .systemLibrary(name: "CMalloc"),
    .target(name: "WALShip", dependencies: ["CLZ4", nioCore]),
    .target(name: "Store", dependencies: ["CMalloc", "CSQLite", "WALShip", nioCore]),
    .target(
      name: "Serving",
      dependencies: [
        "Store", "WALShip", nioCore, nioPosix, nioHTTP, nioWebSocket, nioCompression, logging,
        metrics, crypto, collections,
      ]),
    .target(
      name: "Access",
      dependencies: [
        "Serving", "Store", nioCore, nioPosix, nioSSL, nioTLS, jwt, crypto, logging,
      ]),
    .target(
      name: "Primary",
      dependencies: ["Serving", "Store", "WALShip", nioCore, nioPosix, logging, lifecycle]),
    .target(
      name: "Replica",
      dependencies: ["Serving", "Store", "WALShip", nioCore, nioPosix, logging, lifecycle]),
    .executableTarget(
      name: "edge-sql",
      dependencies: [
        "Access", "Primary", "Replica", "Serving", "Store", "WALShip", logging, lifecycle, signals,
        nioCore, nioPosix,
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Histogram", package: "hdrhistogram-swift"),
      ]),
    .target(
      name: "Simulation",
      dependencies: [
        "CSQLite", "EdgeTesting", "Primary", "Replica", "Serving", "Store", "WALShip", logging,
        nioCore, .product(name: "NIOEmbedded", package: "swift-nio"),
      ]),
    .executableTarget(
      name: "edge-sim",
      dependencies: [
        "EdgeTesting", "Simulation",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),
    .target(
      name: "EdgeTesting",
      dependencies: ["Access", "Primary", "Replica", "Serving", "Store", "WALShip", crypto]),
    .target(name: "TestTraits", dependencies: ["EdgeTesting"], path: "Tests/TestTraits"),
    .testTarget(
      name: "WALShipTests", dependencies: ["WALShip", "EdgeTesting"],
      resources: [.copy("Fixtures")]),
    .testTarget(name: "StoreTests", dependencies: ["Store", "EdgeTesting", "TestTraits"]),
    .testTarget(
      name: "AccessTests", dependencies: ["Access", "Serving", "EdgeTesting", "TestTraits"]),
    .testTarget(name: "ServingTests", dependencies: ["Serving", "EdgeTesting", "TestTraits"]),
    .testTarget(
      name: "ReplicationTests", dependencies: ["Primary", "Replica", "EdgeTesting", "TestTraits"]),
    .testTarget(
      name: "ProcessTests", dependencies: ["edge-sim", "edge-sql", "EdgeTesting", "TestTraits"]),
    .testTarget(name: "TidyTests"),
  ],
  swiftLanguageModes: [.v6]
)
